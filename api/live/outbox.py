"""What a session has to say, on its way to a client that may be slow."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.websockets import WebSocket, WebSocketDisconnect

STALL_S = 10.0
"""How long a client may read nothing, once its connection's buffers are full."""
MAX_BYTES = 1024 * 1024
"""Most text that waits for a client; partials, of which only the newest waits, do not add up."""


class SlowReader(Exception):
    """The client does not read."""


@dataclass(slots=True)
class _Message:
    text: str | Callable[[], Awaitable[str]]
    n_bytes: int
    key: str | None


class Outbox:
    """Messages for one client, sent in order by one task."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._waiting: deque[_Message] = deque()
        self._n_bytes = 0
        self._more = asyncio.Event()
        self._close: tuple[int, str] | None = None

    def put(self, text: str, key: str | None = None) -> None:
        """Send a message, in place of the last one if that waits and has the same key."""
        self._add(_Message(text, len(text), key))

    def put_when(self, ready: Callable[[], Awaitable[str]], n_bytes: int = 0) -> None:
        """Call this when all before it is sent, and send the text of about ``n_bytes``, if any.

        It must end within seconds, and raise nothing.
        """
        self._add(_Message(ready, n_bytes, None))

    def close(self, code: int, reason: str = "") -> None:
        """Close the connection after what is waiting; the first call counts."""
        self._close = self._close or (code, reason)
        self._more.set()

    async def run(self) -> None:
        """Send until the connection is closed.

        Raises:
            SlowReader: the client has read nothing for too long, or too much waits for it.
        """
        try:
            while True:
                if self._waiting:
                    await self._send_next()
                elif self._close is not None:
                    code, reason = self._close
                    async with asyncio.timeout(STALL_S):
                        await self._websocket.close(code, reason)
                    return
                else:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError as error:
            raise SlowReader from error
        except (WebSocketDisconnect, RuntimeError):  # RuntimeError: the client closed first
            return

    def _add(self, message: _Message) -> None:
        if self._close is not None:
            return
        if message.key is not None and self._waiting and self._waiting[-1].key == message.key:
            self._n_bytes -= self._waiting.pop().n_bytes
        self._waiting.append(message)
        self._n_bytes += message.n_bytes
        self._more.set()

    async def _send_next(self) -> None:
        if self._n_bytes > MAX_BYTES:
            raise SlowReader
        message = self._waiting.popleft()
        self._n_bytes -= message.n_bytes
        text = message.text if isinstance(message.text, str) else await message.text()
        if text:
            async with asyncio.timeout(STALL_S):
                await self._websocket.send_text(text)
