"""A collector of OTLP over HTTP on loopback: keeps the spans that it is sent."""

import gzip
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Seen:
    """A span as it came."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty: it has none."""
    name: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    links: Sequence[str]
    """Ids of spans."""
    is_error: bool
    resource: Mapping[str, Any]

    @property
    def process(self) -> str:
        """Which process it is of."""
        return str(self.resource["service.instance.id"])


class Collector:
    """Takes spans; ``collecting`` makes it."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.headers: list[Mapping[str, str]] = []
        """Of each request, names in lower case."""
        self._released = threading.Event()
        self._released.set()
        self.held = threading.Event()
        """Is set once a request hangs."""
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.collector = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        """Its endpoint, as ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def hang(self) -> None:
        """Answer no request until ``release``."""
        self._released.clear()

    def release(self) -> None:
        """Answer again, those that hang too."""
        self._released.set()

    def of(self, trace_id: str) -> list[Seen]:
        """Return a trace, in the order of its spans' starts."""
        spans = [span for span in list(self.spans) if span.trace_id == trace_id]
        return sorted(spans, key=lambda span: span.start_ns)

    def close(self) -> None:
        """Refuse connections from now on."""
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, headers: Mapping[str, str], body: bytes) -> None:
        """Keep what a request brings."""
        if not self._released.is_set():
            self.held.set()
            self._released.wait()
        self.headers.append(headers)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _values(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [_seen(span, resource) for span in scope.spans]


def _seen(span: Any, resource: Mapping[str, Any]) -> Seen:
    return Seen(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _values(span.attributes),
        [link.span_id.hex() for link in span.links],
        span.status.code == 2,
        resource,
    )


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    collector: Collector


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        found = self.path == "/v1/traces"
        if found:
            self.server.collector.take(headers, body)
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def collecting() -> Iterator[Collector]:
    """Yield a collector and end it afterwards."""
    collector = Collector()
    try:
        yield collector
    finally:
        collector.close()
