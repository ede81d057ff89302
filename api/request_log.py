"""What is recorded of every request: its id, its metrics and one line in the log."""

import logging
import re
import time
from uuid import uuid4

from prometheus_client import Counter, Histogram
from prometheus_client.registry import CollectorRegistry
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("api.access")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
"""A client's X-Request-Id that is used; any other is replaced by one of ours."""

_QUIET_ROUTES = ("/health", "/ready", "/metrics")
"""Machines ask for these every few seconds, so they are logged at DEBUG."""

_DURATION_BUCKETS_S = (0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""From a health check to the upload of a large file."""


class Observer:
    """ASGI middleware that counts, times and logs; sets and returns ``X-Request-Id``."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._requests = Counter(
            "longhand_http_requests",
            "HTTP requests by route template and status.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._durations_s = Histogram(
            "longhand_http_request_duration_seconds",
            "Time from a request's head to the end of its response.",
            ["method", "route"],
            buckets=_DURATION_BUCKETS_S,
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        request_id = dict(scope["headers"]).get(b"x-request-id", b"")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = uuid4().hex.encode()
        scope.setdefault("state", {})["request_id"] = request_id.decode()
        status = 500

        async def identified_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", []), (b"x-request-id", request_id)]
                message = {**message, "headers": headers}
            await send(message)

        began = time.perf_counter()
        try:
            await self._app(scope, receive, identified_send)
        finally:
            self._record(scope, status, time.perf_counter() - began)

    def _record(self, scope: Scope, status: int, took_s: float) -> None:
        # Only the application's own templates and methods become labels, so that no client can
        # grow the metrics.
        method, template = "other", "unmatched"
        if (route := scope.get("route")) is not None:
            method, template = scope["method"], route.path
        self._requests.labels(method, template, status).inc()
        self._durations_s.labels(method, template).observe(took_s)
        # The query string is left out, as clients may put anything into it.
        level = logging.DEBUG if template.startswith(_QUIET_ROUTES) else logging.INFO
        log.log(
            level,
            "%s %s %d %.0f ms %s",
            scope["method"],
            scope["path"],
            status,
            took_s * 1000,
            scope["state"]["request_id"],
        )
