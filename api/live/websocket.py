"""The WebSocket side of the HTTP server."""

import logging
from collections.abc import Callable
from typing import Any

from starlette.websockets import WebSocket
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

# uvicorn and websockets log request lines at INFO and DEBUG: a query string may hold a secret.
log = logging.getLogger("api.websocket")
log.setLevel(logging.WARNING)

ABORT = "longhand.abort"
"""Extension of the scope: closes the connection without waiting for what is not sent yet."""


class LiveProtocol(WebSocketsSansIOProtocol):
    """A connection that can be aborted, whose log has no query strings."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = log
        self.conn.logger = log
        self.conn.debug = False

    def handle_connect(self, event: Request) -> None:
        """Begin the application's task; it runs after this."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            extensions: dict[str, Any] = self.scope.setdefault("extensions", {})
            extensions[ABORT] = self.transport.abort

    async def send(self, message: ASGISendEvent) -> None:
        """Send what the application says; an answer in place of a handshake completes it, too.

        uvicorn would log an error for each client that is refused in this way.
        """
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True

    def keepalive_timeout(self) -> None:
        """Close a connection whose client does not answer pings: it will not read either."""
        super().keepalive_timeout()
        self.transport.abort()


def abort(websocket: WebSocket) -> None:
    """Close a connection whose client does not read."""
    extensions: dict[str, Callable[[], None]] = websocket.scope.get("extensions") or {}
    if (close := extensions.get(ABORT)) is not None:
        close()


WEBSOCKETS: dict[str, Any] = {
    "ws": LiveProtocol,
    "ws_max_size": 256 * 1024,
    "ws_ping_interval": 20.0,
    "ws_ping_timeout": 20.0,
    "ws_per_message_deflate": False,
}
"""Of ``uvicorn.Config``. A message is 8 s of audio at most; compression would gain nothing."""
