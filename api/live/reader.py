"""Reading what a client sends. It never waits for a model; one that sends too fast fills its own
buffers."""

import contextlib
from collections.abc import Iterator

from starlette.websockets import WebSocket

from api.live.errors import LiveError
from api.live.face import Face
from api.live.flow import Flow
from api.live.outbox import Outbox


class Reader:
    """Reads one client's messages."""

    def __init__(self, websocket: WebSocket, face: Face, flow: Flow, outbox: Outbox) -> None:
        self._websocket, self._face, self._flow, self._outbox = websocket, face, flow, outbox

    async def run(self) -> bool:
        """Read until the client is gone, or, returning False, until something fails."""
        flow = self._flow
        try:
            with self._telling():
                self._face.on_open()
            while True:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return True
                flow.note_message()
                with self._telling():
                    if (audio := message.get("bytes")) is not None:
                        await self._face.take_audio(audio)
                    else:
                        if flow.audio is not None:
                            await flow.audio.settle()  # the message came after it
                        await self._face.on_text(message.get("text") or "")
                if flow.audio is not None:
                    await flow.audio.wait_for_room()
        except Exception:  # noqa: BLE001 - a bug ends this session and no other
            flow.fail()
            return False

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Tell the client of a ``LiveError``, and close the connection if the error does so."""
        try:
            yield
        except LiveError as error:
            self._face.tell_error(error)
            if error.close is not None:
                self._outbox.close(*self._face.close_for(error))
