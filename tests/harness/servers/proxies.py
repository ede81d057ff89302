"""A TCP proxy that can misbehave: on single connections, or as a web server that only fails."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_FAILURE = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_LINGER_S = 1.0
"""How long what a client still sends is read: a connection closed at once would be reset, and the
answer lost."""


class _Link:
    """A client's connection, and the one to the server that was made for it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.frozen = False
        self.unanswered = False
        """Whether it was the client who spoke last."""

    def close(self) -> None:
        self.client.close()
        self.server.close()


class Proxy:
    """Passes connections on to a loopback port, until told otherwise. Its loop is a thread's."""

    def __init__(self, target: int) -> None:
        """Listen on a port of its own, ``port``."""
        self._target = target
        self._links: set[_Link] = set()
        self._failing = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._await(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = int(self._server.sockets[0].getsockname()[1])

    def freeze(self) -> None:
        """Take what the present connections send, either way, and pass nothing on; new ones work.

        So does a firewall that has forgotten them: nobody is told.
        """
        self._call(self._freeze)

    def n_waiting_in_vain(self) -> int:
        """Return on how many frozen connections clients still wait for an answer."""
        return self._call(lambda: sum(link.frozen and link.unanswered for link in self._links))

    def fail(self, *, on: bool) -> None:
        """Answer every request with 500 from now on, or go back to work."""

        def switch() -> None:
            self._failing = on

        self._call(switch)

    def close(self) -> None:
        """Break all connections and take no more."""

        def stop() -> None:
            self._server.close()
            for link in [*self._links]:
                link.close()

        self._call(stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _freeze(self) -> None:
        for link in self._links:
            link.frozen = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        link = _Link(writer, server_writer)
        self._links.add(link)
        up = asyncio.ensure_future(self._pass_up(reader, link))
        down = asyncio.ensure_future(self._pass_down(server_reader, link))
        try:
            # A frozen connection stays until its client gives it up.
            await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            if link.frozen:
                await up
        finally:
            up.cancel()
            down.cancel()
            link.close()
            self._links.discard(link)

    async def _pass_up(self, reader: asyncio.StreamReader, link: _Link) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if self._failing:
                    link.client.write(_FAILURE)
                    link.client.write_eof()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_LINGER_S):
                            while await reader.read(65_536):
                                pass
                    return
                link.unanswered = True
                if not link.frozen:
                    link.server.write(data)
                    await link.server.drain()

    async def _pass_down(self, reader: asyncio.StreamReader, link: _Link) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if not link.frozen:
                    link.unanswered = False
                    link.client.write(data)
                    await link.client.drain()

    def _call(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return self._await(call())

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)
