"""What is recorded of every request: its id, its metrics and one line in the log."""

import logging
import re
import time
from collections.abc import Mapping
from functools import partial
from urllib.parse import quote
from uuid import uuid4

from prometheus_client import Counter, Histogram
from prometheus_client.registry import CollectorRegistry
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.infra import logs, tracing

log = logging.getLogger("api.access")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
"""A client's X-Request-Id that is used; any other is replaced by one of ours."""

_QUIET_ROUTES = ("/health", "/ready", "/metrics")
"""Machines ask for these every few seconds, so they are logged at DEBUG."""

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
OTHER_METHOD = "other"
"""Clients may make up methods, and the server passes them on."""
UNMATCHED = "unmatched"
"""The route of paths that do not exist."""

MAX_PATH_CHARS = 256
"""A longer path is cut in the log."""
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}")
"""A client's address. What a trusted proxy forwards as such may be anything."""

_DURATION_BUCKETS_S = (0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""From a health check to the upload of a large file."""


class Observer:
    """ASGI middleware that counts, times and logs; sets and returns ``X-Request-Id``.

    All lines that are logged while a request is served name its id, its client and its tenant.
    """

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
        """Serve one request, or one connection of a WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        request_id = dict(scope["headers"]).get(b"x-request-id", b"")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = uuid4().hex.encode()
        scope.setdefault("state", {})["request_id"] = request_id.decode()
        # It is not taken back: each request has a task of its own, in which the server logs the
        # errors that nobody caught.
        logs.bind(partial(_identity, scope))
        status = 500

        async def identified_send(message: Message) -> None:
            nonlocal status
            match message["type"]:
                case "http.response.start":
                    status = message["status"]
                    headers = [*message.get("headers", []), (b"x-request-id", request_id)]
                    message = {**message, "headers": headers}
                case "websocket.accept":
                    status = 101
                case "websocket.http.response.start":
                    status = message["status"]
                case "websocket.close" if status != 101:
                    status = 403
            await send(message)

        began = time.perf_counter()
        with _begin_span(scope).active() as span:
            try:
                await self._app(scope, receive, identified_send)
            finally:
                self._record(scope, status, time.perf_counter() - began)
                _end_span(span, scope, status)

    def _record(self, scope: Scope, status: int, took_s: float) -> None:
        route = scope.get("route")
        template = UNMATCHED if route is None else route.path
        method = scope.get("method", "WEBSOCKET")
        if scope["type"] == "http":
            self._count(method, template, status, took_s)
        path = _path(scope)
        took_ms = round(took_s * 1000)
        log.log(
            logging.DEBUG if template.startswith(_QUIET_ROUTES) else logging.INFO,
            "%s %s %d %d ms",
            *(method, path, status, took_ms),
            extra={
                "fields": {
                    "method": method,
                    "path": path,
                    "route": template,
                    "status": status,
                    "duration_ms": took_ms,
                }
            },
        )

    def _count(self, method: str, template: str, status: int, took_s: float) -> None:
        # Labels come from closed sets, so that no client can grow the metrics.
        if template == UNMATCHED or method not in METHODS:
            method = OTHER_METHOD
        self._requests.labels(method, template, status).inc()
        self._durations_s.labels(method, template).observe(took_s)


def _begin_span(scope: Scope) -> tracing.Span:
    """Begin the span of a request or a connection, in the client's trace if it names one."""
    headers = dict(scope["headers"])
    parent = tracing.TraceContext.parse(headers.get(b"traceparent", b"").decode("latin-1"))
    if scope["path"].startswith(_QUIET_ROUTES):
        return tracing.NO_SPAN
    method = scope.get("method", "GET")
    return tracing.begin(
        method if method in METHODS else "HTTP",
        tracing.Kind.SERVER,
        parent=parent,
        attributes={
            "http.request.method": method if method in METHODS else "_OTHER",
            "url.scheme": scope.get("scheme"),
            "url.path": _path(scope),
            "network.protocol.version": scope.get("http_version"),
        },
    )


def _end_span(span: tracing.Span, scope: Scope, status: int) -> None:
    """End the span of a request, by the semantic conventions of HTTP servers 1.23 and later."""
    if not span.is_recording:
        return
    method = scope.get("method", "GET")
    identity = _identity(scope)
    attributes: dict[str, str | int | None] = {
        "http.response.status_code": status,
        "client.address": str(identity["client"]) if "client" in identity else None,
        "longhand.request.id": str(identity["request_id"]),
        "longhand.tenant": str(identity["tenant"]) if "tenant" in identity else None,
    }
    if (route := scope.get("route")) is not None:
        attributes["http.route"] = route.path
        span.rename(f"{method if method in METHODS else 'HTTP'} {route.path}")
    span.set(attributes)
    span.end(str(status) if status >= 500 else None)


def _path(scope: Scope) -> str:
    """Return the path as the client wrote it, percent-encoded, and cut.

    The query string is left out, as clients may put anything into it.
    """
    raw = scope.get("raw_path") or quote(scope["path"]).encode()
    return logs.clean(raw.decode("ascii", "backslashreplace"), MAX_PATH_CHARS)


def _identity(scope: Scope) -> Mapping[str, object]:
    """Return what is known of who asks; the tenant is known once the key has been checked."""
    fields = {"request_id": scope["state"]["request_id"]}
    if client := scope.get("client"):
        fields["client"] = client[0] if _ADDRESS.fullmatch(client[0]) else "unknown"
    if principal := scope["state"].get("principal"):
        fields["tenant"] = principal.tenant
    return fields
