"""One WebSocket connection, from its handshake to its end, as a protocol works with it."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from api.live.errors import LiveError
from api.live.face import Face
from api.live.flow import Flow
from api.live.outbox import Outbox, SlowReader
from api.live.reader import Reader
from api.live.recording import Recording
from api.live.recovery import Recovery
from api.live.sessions import LiveSessions, Wish
from api.live.watch import watch
from api.live.websocket import abort
from shared.infra.errors import InvalidParameter, LiveBusy, TooManyAtOnce
from shared.speech.live.events import Effect, Final
from shared.speech.live.session import LiveSession
from shared.speech.transcript.edits import Edits

log = logging.getLogger("api.live")


class Connection(Face):
    """A client with at most one session. A subclass speaks its protocol."""

    def __init__(self, websocket: WebSocket, live: LiveSessions, tenant: str) -> None:
        self._websocket, self._live, self._tenant = websocket, live, tenant
        self._outbox = Outbox(websocket)
        self._flow = Flow(self, self._outbox, live, tenant, websocket.scope["path"])
        self.idle_s = live.settings.live_idle_s
        """How long the client may send nothing."""

    async def run(self) -> None:
        """Serve the client until the connection is closed."""
        try:
            if not self._live.take(self, self._tenant):
                raise LiveBusy(
                    "there are too many live connections, or the server is about to stop"
                )
        except (TooManyAtOnce, LiveBusy) as error:
            await self._refuse(error)
            return
        try:
            await self._live.prepare()
            try:
                self.on_handshake()
            except LiveError as error:
                await self._refuse(_refusal(error))
                return
            await self._websocket.accept(self._websocket.state.subprotocol)
            await self._serve()
        except WebSocketDisconnect:
            return  # during the handshake
        finally:
            self._flow.leave()
            self._live.leave(self)
            await self._flow.close()

    async def _refuse(self, error: Exception) -> None:
        refusal = self.answer_error(self._websocket, error)
        await self._websocket.send_denial_response(refusal)

    async def _serve(self) -> None:
        reading = Reader(self._websocket, self, self._flow, self._outbox).run()
        reader = asyncio.create_task(reading)
        writer = asyncio.create_task(self._outbox.run())
        clock = asyncio.create_task(watch(self._flow, self._outbox, lambda: self.idle_s))
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            if not (reader.done() and reader.result()):
                await writer
        except SlowReader:
            log.warning("%s: the client does not read", self._websocket.scope["path"])
            abort(self._websocket)
        finally:
            for task in (reader, writer, clock):
                task.cancel()
            await asyncio.gather(reader, writer, clock, return_exceptions=True)

    # What a protocol calls.

    @property
    def session(self) -> LiveSession | None:
        """The session, once it has begun."""
        return self._flow.session

    @property
    def session_id(self) -> str:
        """Its id; empty before it has begun."""
        return self._flow.session_id

    @property
    def default_language(self) -> str | None:
        """Language of sessions that name none; None: it is detected."""
        return self._live.settings.live_language or None

    @property
    def recovery(self) -> Recovery:
        """What another connection needs to go on with the session."""
        return self._flow.recovery

    @property
    def recording(self) -> Recording | None:
        """Of a session that is to be saved."""
        return self._flow.recording

    @property
    def lacks_speakers(self) -> bool:
        """Whether the session's speakers are to be told, and no worker hears voices now."""
        return self._flow.wording.speakers is not None and self._live.diarizer() is None

    def begin(
        self,
        session_id: str,
        wish: Wish,
        *,
        start: int = 0,
        n_finals: int = 0,
        speakers: str = "",
    ) -> LiveSession:
        """Begin the session, or go on with it at sample ``start`` after so many finals.

        ``speakers`` are those whom an earlier connection has told of (``OnlineSpeakers``).

        Raises:
            LiveError: it cannot begin.
        """
        return self._flow.begin(session_id, wish, start, n_finals, speakers)

    def record(self, recording: Recording) -> None:
        """Keep what the session hears from now on."""
        self._flow.recording = recording

    async def take_audio(self, audio: bytes) -> None:
        """Take a message of audio."""
        self.on_audio()
        assert self._flow.audio is not None
        await self._flow.audio.take(audio)

    def finish(self) -> None:
        """End the session after its finals, as the client sends no more audio."""
        if self._flow.audio is not None:
            self._flow.audio.finish()

    def change(self, **options: Any) -> None:
        """Have what follows done with other options (``LiveOptions``), if there is a session.

        Raises:
            LiveError: the session's model does not know the language, or takes no prompt.
        """
        self._flow.change(**options)

    def do(self, effects: Iterable[Effect]) -> None:
        """Carry out what the session wants."""
        self._flow.do(effects)

    def edit(self, edits: Edits | None) -> None:
        """Have what follows told with other edits."""
        self._flow.wording.edit(edits)

    def end_with(self, code: int, reason: str = "") -> None:
        """Close the connection with this code once the session has ended."""
        self._flow.end_with(code, reason)

    def send(self, message: Mapping[str, Any], key: str | None = None) -> None:
        """Send JSON, in place of the last message if that still waits and has the same key."""
        self._outbox.put(_json(message), key)

    def repeat(self, text: str) -> None:
        """Send JSON that an earlier connection of the session has made."""
        self._outbox.put(text)

    def send_when(self, ready: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        """Send what this returns as JSON. It must end within seconds, and raise nothing."""

        async def text() -> str:
            return _json(await ready())

        self._outbox.put_when(text)

    def send_final(self, message: Mapping[str, Any], final: Final) -> None:
        """Send a final as JSON, once it is stored for a connection that goes on."""
        speakers = self._flow.wording.speakers
        told = "" if speakers is None else speakers.to_json()
        self.recovery.send_final(_json(message), final.segment, final.end, told)

    # What a server that stops calls.

    def drain(self) -> None:
        """End the session at the next pause, and close the connection."""
        self._flow.drain()

    def end_now(self) -> None:
        """End the session and close the connection after its finals."""
        self._flow.end_now()

    def restart(self) -> None:
        """Close the connection at once."""
        self._flow.restart()


def _refusal(error: LiveError) -> Exception:
    """Return what a handshake is answered with, as the session that it asks for cannot begin."""
    if error.code == "INVALID_MESSAGE":
        return InvalidParameter(str(error))
    cause = error.__cause__
    return cause if isinstance(cause, TooManyAtOnce) else LiveBusy(str(error))


def _json(message: Mapping[str, Any]) -> str:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))
