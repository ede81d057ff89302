"""A worker's own health endpoints and metrics, over plain HTTP, for whoever runs its process."""

import json
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from worker.process import drain

log = logging.getLogger(__name__)

_FURTHEST = ("ready", "loading", "unloaded")

PATHS = ("/health/live", "/health/startup", "/health/ready", "/metrics")


@dataclass(slots=True)
class Health:
    """The state of a worker; its main thread writes it, the health server's threads read it."""

    role: str
    model: str | None = None
    """The model, or several with a comma between them."""
    has_started: bool = False
    """Whether its models, if it has any, were loaded and are warm."""
    takes_messages: bool = False
    residences: dict[str, str] = field(default_factory=dict)
    """Where each model is now: 'ready', 'unloaded' while it is idle, or 'loading' once more. The
    worker takes work meanwhile."""
    failing: Callable[[], Sequence[str]] = tuple
    """Returns a sentence for each kind of step that always fails in this worker."""

    def answer(self, path: str) -> tuple[int, dict[str, str | None]]:
        """Return the status code and the document for one of the paths under ``/health``."""
        document = {"role": self.role, "model": self.model}
        if path == "/health/live":
            return 200, {"status": "alive", **document}
        if not self.has_started:
            return 503, {"status": "loading", **document}
        if path == "/health/startup":
            return 200, {"status": "started", **document}
        if drain.has_begun():
            return 503, {"status": "draining", **document}
        if not self.takes_messages:
            return 503, {"status": "starting", **document}
        if reasons := self.failing():
            return 503, {"status": "failing", **document, "reason": "; ".join(reasons)}
        return 200, {"status": self._furthest(), **document}

    def _furthest(self) -> str:
        """Return where the model is that is nearest to hearing something."""
        return min(self.residences.values(), key=_FURTHEST.index, default="ready")


def serve_health(health: Health, host: str, port: int) -> None:
    """Serve a worker's health from a thread until the process ends.

    Raises:
        OSError: the address cannot be bound.
    """
    server = _Server((host, port), partial(_Handler, health))
    # A child of the pool that outlives its parent must not keep the port.
    os.register_at_fork(after_in_child=server.socket.close)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    log.info("health on http://%s:%d", host, port)


class _Server(ThreadingTCPServer):
    """As ``http.server.ThreadingHTTPServer``, without its slow look-up of the host's name."""

    allow_reuse_address = True
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    server_version = "Longhand"
    sys_version = ""
    timeout = 5.0
    """Seconds after which a silent connection is closed."""

    def __init__(self, health: Health, *arguments: object) -> None:
        self._health = health
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._send(200, CONTENT_TYPE_LATEST, generate_latest())
        elif self.path in PATHS:
            code, document = self._health.answer(self.path)
            self._send(code, "application/json", json.dumps(document).encode())
        else:
            self._send(404, "application/json", b'{"status": "not found"}')

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Log nothing, as probes come every few seconds."""

    def _send(self, code: int, content_type: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
