"""A server of files on loopback: says what it is told to, and keeps what it is asked."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class File:
    """An answer to GET."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    """An empty one is not sent: without ``Content-Length`` the body ends with the connection."""
    breaks_after: int | None = None
    """Bytes of the body after which the connection breaks, once."""
    at: Callable[[int], None] | None = None
    """Is called after so many bytes of the body were sent, again and again."""


@dataclass(frozen=True)
class Asked:
    """A request."""

    path: str
    headers: Mapping[str, str]
    """Names in lower case."""


class FileServer:
    """Answers from threads; ``serving_files`` makes it."""

    def __init__(self, host: str) -> None:
        self.files: dict[str, File] = {}
        """By path, with its query."""
        self.asked: list[Asked] = []
        self._broken: set[str] = set()
        self._server = _Server((host, 0), _Handler)
        self._server.files = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.port = int(self._server.server_address[1])
        self.base = f"http://{host}:{self.port}"

    def put(self, path: str, body: bytes = b"", **fields: object) -> str:
        """Serve a file; return its URL."""
        self.files[path] = File(body, **fields)  # type: ignore[arg-type]
        return self.base + path

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def breaks(self, path: str) -> int | None:
        """Return after how many bytes this answer breaks off."""
        if path in self._broken:
            return None
        self._broken.add(path)
        return self.files[path].breaks_after


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    files: FileServer


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        files = self.server.files
        files.asked.append(Asked(self.path, headers))
        found = files.files.get(self.path, File(b"nothing here", 404))
        body, status, told = found.body, found.status, dict(found.headers)
        if "range" in headers and headers.get("if-range") == told.get("ETag"):
            first = int(headers["range"].removeprefix("bytes=").removesuffix("-"))
            told["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
            body, status = body[first:], 206
        with suppress(OSError):
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | told).items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            most = files.breaks(self.path) if found.breaks_after else None
            sent = 0
            for start in range(0, len(body[:most]), 65_536):
                piece = body[start : min(start + 65_536, len(body) if most is None else most)]
                self.wfile.write(piece)
                sent += len(piece)
                if found.at is not None:
                    found.at(sent)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass


@contextmanager
def serving_files(host: str = "127.0.0.1") -> Iterator[FileServer]:
    """Serve files until the block ends."""
    server = FileServer(host)
    try:
        yield server
    finally:
        server.close()
