"""The HTTP server, for an application whose answers may last as long as a job or a conversation."""

import asyncio
import errno
import logging
import time
from collections.abc import Awaitable, Callable
from socket import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from api.connections import KEEP_ALIVE_S, Connections, HttpProtocol
from api.live.websocket import WEBSOCKETS
from api.rare_warnings import RareWarning

log = logging.getLogger("api.server")

OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)


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
        *,
        max_connections: int,
    ) -> None:
        """``drain`` shares the time that the configuration gives to requests under way."""
        super().__init__(config)
        self.server_state = Connections(max_connections)
        self._on_stop, self._drain = on_stop, drain

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start; a lack of file descriptors is logged once in a while from now on."""
        asyncio.get_running_loop().set_exception_handler(LoopErrors())
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Stop; until ``drain`` is done, requests are served, so that readiness can be asked."""
        began = time.monotonic()
        self._on_stop()
        await self._drain()
        if (grace_s := self.config.timeout_graceful_shutdown) is not None:
            left_s = max(1, grace_s - round(time.monotonic() - began))
            self.config.timeout_graceful_shutdown = left_s
        await super().shutdown(sockets)


class LoopErrors:
    """Logs errors of the event loop; those of a connection that cannot be accepted, rarely.

    The system reports a connection that waits for a file descriptor again and again.
    """

    def __init__(self) -> None:
        self._warn = RareWarning(log)

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in OUT_OF_FILES:
            self._warn(f"no connection can be accepted: {error.strerror}")
        else:
            loop.default_exception_handler(context)


def server_config(app: ASGIApp, *, grace_s: int, **options: Any) -> uvicorn.Config:
    """Return how applications are served; ``options`` are uvicorn's own."""
    return uvicorn.Config(
        app,
        http=HttpProtocol,
        loop="uvloop",
        log_config=None,
        # api.request_log logs requests, without their query strings.
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=grace_s,
        timeout_keep_alive=KEEP_ALIVE_S,
        **WEBSOCKETS,
        **options,
    )
