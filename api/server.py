"""The HTTP server, for an application whose answers may last as long as a job or a conversation."""

import time
from collections.abc import Awaitable, Callable
from socket import socket

import uvicorn


class Server(uvicorn.Server):
    """Calls ``on_stop`` and waits for ``drain`` before it closes anything.

    uvicorn tells an application of its end only after all requests are over, and it closes
    WebSockets at once. Requests that wait for a job would be cut off, and so would finals.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        on_stop: Callable[[], None],
        drain: Callable[[], Awaitable[None]],
    ) -> None:
        """``drain`` shares the time that the configuration gives to requests under way."""
        super().__init__(config)
        self._on_stop, self._drain = on_stop, drain

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Stop; until ``drain`` is done, requests are served, so that readiness can be asked."""
        began = time.monotonic()
        self._on_stop()
        await self._drain()
        if (grace_s := self.config.timeout_graceful_shutdown) is not None:
            left_s = max(1, grace_s - round(time.monotonic() - began))
            self.config.timeout_graceful_shutdown = left_s
        await super().shutdown(sockets)
