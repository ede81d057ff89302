"""A webhook receiver on loopback: says what it is told to, and keeps all that it hears."""

import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook


@dataclass(frozen=True)
class Reply:
    """What the receiver says to one request."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    hang: bool = False
    """Say nothing until ``Receiver.release``, then this."""


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    at: float
    """Seconds since 1970."""
    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def id(self) -> str:
        """Its ``webhook-id``."""
        return self.headers["webhook-id"]

    def verify(self, secret: str) -> Any:
        """Return the event, once a stranger's library has verified its signature and its age."""
        return Webhook(secret).verify(self.body, dict(self.headers))


class Receiver:
    """Answers from as many threads as it takes; ``receiving`` makes it."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self.requests: list[Received] = []
        """In the order in which they came; kept before they are answered."""
        self.most_at_once = 0
        self._at_once = 0
        self._replies: Sequence[Reply] = (Reply(),)
        self._released = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server((host, port), _Handler)
        self._server.receiver = self
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "http" if tls is None else "https"
        self.host, self.port = host, int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self._scheme}://{self.host}:{self.port}/hook"

    def reply(self, *replies: Reply) -> None:
        """Give these replies from now on, one by one, and then the last of them for good."""
        with self._lock:
            self._replies = replies

    def release(self) -> None:
        """Let all requests go that hang, now and later."""
        self._released.set()

    def verified(self, secret: str) -> list[Any]:
        """Return all events, each request's signature verified."""
        return [request.verify(secret) for request in list(self.requests)]

    def close(self) -> None:
        """Hear nothing more: connections are refused from now on."""
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, request: Received) -> Reply:
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            reply, *later = self._replies
            self._replies = later or self._replies
        if reply.hang:
            self._released.wait()
        return reply

    def _done(self) -> None:
        with self._lock:
            self._at_once -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        receiver = self.server.receiver
        body = self.rfile.read(length)
        if len(body) < length:
            return  # who sent it was killed meanwhile: half a request is none
        reply = receiver._take(Received(time.time(), self.command, self.path, headers, body))
        try:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
        except OSError:
            pass  # whoever asked has given up
        finally:
            receiver._done()

    do_PUT = do_POST  # noqa: N815 - its name there

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass


@contextmanager
def receiving(
    *replies: Reply, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """Run a receiver that gives these replies, by default 204 to all."""
    receiver = Receiver(host, port, tls)
    receiver.reply(*(replies or (Reply(),)))
    try:
        yield receiver
    finally:
        receiver.close()
