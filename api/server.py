"""The HTTP server, for an application whose answers may last as long as a job."""

from collections.abc import Callable
from socket import socket

import uvicorn


class Server(uvicorn.Server):
    """Calls ``on_stop`` before it waits for the requests under way.

    uvicorn tells an application of its end only after all requests are over. Those that wait for a
    job would be cut off first.
    """

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        self._on_stop()
        await super().shutdown(sockets)
