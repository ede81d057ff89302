"""Connections: how many there are, and how long each may keep the server waiting.

A connection waits for its client while a request's head or body is on its way, and between two
requests. When as many connections are open as may be, the one that has waited longest for its
client is closed for a new one. So clients that send nothing keep nobody out.
"""

import asyncio
import json
import logging
import socket
from asyncio import TimerHandle
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from api.rare_warnings import RareWarning

log = logging.getLogger("api.connections")

HEAD_S = 20.0
"""From a connection's begin, or a later request's first byte, to the end of the request's head."""

KEEP_ALIVE_S = 75
"""Between two requests: longer than the 60 s for which proxies keep their connections, so that a
proxy does not send a request on one that is about to be closed."""

MAX_OVERHEAD_BYTES = 64 * 1024
"""What a request may have beside its body and as much again: head, sizes of chunks, trailers.
Chunks of a few bytes each cost more to parse than what they carry is worth."""

UNREAD_S = 30.0
"""A connection is cut when its client has taken nothing of what was sent for this long."""


class Connections(ServerState):
    """All connections of a server, HTTP and WebSocket."""

    def __init__(self, most: int) -> None:
        """``most``: how many may be open at once."""
        super().__init__()
        self._most = most
        self._waiting: dict[HttpProtocol, None] = {}
        """Those that wait for their clients, the longest first."""
        self._warn = RareWarning(log)

    def wait_for_client(self, connection: "HttpProtocol") -> None:
        """Note that a connection waits for its client from now on."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = None

    def heard(self, connection: "HttpProtocol") -> None:
        """Note that a connection's client has sent something."""
        if connection in self._waiting:
            self.wait_for_client(connection)

    def wait_no_more(self, connection: "HttpProtocol") -> None:
        """Note that it is the server's turn, or that the connection is over."""
        self._waiting.pop(connection, None)

    def make_room(self) -> bool:
        """Close a connection if there are too many; False: the server owes all of them an answer.

        Costs no more than a look at each upload that is held back.
        """
        if len(self.connections) <= self._most:
            return True
        self._warn(f"{self._most} connections are open, which is the limit")
        longest = next((each for each in self._waiting if not each.flow.read_paused), None)
        if longest is None:
            return False
        self.wait_no_more(longest)
        self.connections.discard(longest)
        longest.transport.abort()
        return True


class HttpProtocol(HttpToolsProtocol):
    """A connection with limits of time and size for what comes before the application sees it."""

    server_state: Connections

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: TimerHandle | None = None
        self._in_request = False
        """Whether a request has begun whose end is not received."""
        self._in_head = False
        """Whether what the parser calls a header is one: it calls trailers so, too."""
        self._overhead_bytes = 0
        self._body_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it if none can be closed for it."""
        super().connection_made(transport)
        cut_unread(transport)
        if not self.server_state.make_room():
            self._refuse(503, "too_many_connections", "this process has no room for connections")
            return
        self.server_state.wait_for_client(self)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_head_timer()
        self.server_state.wait_no_more(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and refuse what is mostly no body."""
        if not self._in_request and self._head_timer is None:
            self._start_head_timer()
        self._overhead_bytes += len(data)
        super().data_received(data)
        self.server_state.heard(self)
        if self._overhead_bytes <= MAX_OVERHEAD_BYTES + self._body_bytes:
            return
        if self._head_timer is not None:
            self._refuse(431, "request_head_too_large", "the request's head is too large")
        else:
            self._refuse(400, "too_many_chunks", "the body's chunks are too small")

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._in_request = self._in_head = True
        if self._head_timer is None:
            self._start_head_timer()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are dropped, as a proxy has checked none of them as headers."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hand the request to the application."""
        self._in_head = False
        self._stop_head_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        super().on_body(body)
        self._overhead_bytes -= len(body)
        self._body_bytes += len(body)

    def on_message_complete(self) -> None:
        """End the request: now it is the server's turn."""
        super().on_message_complete()
        self._in_request = False
        self._overhead_bytes = self._body_bytes = 0
        if self.cycle is not None and not self.cycle.response_complete:
            self.server_state.wait_no_more(self)

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it is there."""
        super().on_response_complete()
        if not self.transport.is_closing() and not self.pipeline:
            self.server_state.wait_for_client(self)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; a session has limits of its own."""
        self.server_state.wait_no_more(self)
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(400, "invalid_http", msg)

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self._end_head_timer)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_head_timer(self) -> None:
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._start_head_timer()  # the answer before it goes on
        elif self._in_request:
            self._refuse(408, "request_head_late", "the request's head did not come in time")
        else:
            self.transport.close()

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answer, unless an answer is under way, and close the connection.

        The application has not seen the request, or learns that its client is gone.
        """
        cycle = self.cycle
        under_way = cycle is not None and not cycle.response_complete
        if not (under_way and cycle.response_started):
            phrase = HTTPStatus(status).phrase
            problem = {"type": "about:blank", "title": phrase, "status": status}
            body = json.dumps({**problem, "code": code, "detail": detail}).encode()
            retry = "retry-after: 5\r\n" if status == 503 else ""
            head = (
                f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/problem+json\r\n"
                f"content-length: {len(body)}\r\n{retry}connection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        if under_way:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()


def cut_unread(transport: asyncio.BaseTransport) -> None:
    """Have the system cut a connection whose client takes nothing for ``UNREAD_S``.

    The system knows best what a client has taken, also once all is written and the transport is
    closing. Linux alone has the option; elsewhere such a connection lasts.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connected = transport.get_extra_info("socket")
        if connected.family in (socket.AF_INET, socket.AF_INET6):
            milliseconds = round(UNREAD_S * 1000)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
