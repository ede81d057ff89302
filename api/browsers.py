"""What browsers are told, and kept from: the check of Host and Origin, CORS, security headers."""

from fastapi import FastAPI, Request
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from api.origins import AllowedOrigins
from api.uploads import tus_headers
from shared.infra.errors import ForbiddenOrigin, UnknownHost
from shared.infra.settings import Settings

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer that has none of its own. HSTS is for whoever ends TLS."""

DOCUMENTATION_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; worker-src blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI and ReDoc begin with a script within the page."""

DOCUMENTATION = frozenset({"/docs", "/redoc"})

METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE")
REQUEST_HEADERS = (
    *("Authorization", "Content-Type", "If-Match", "Last-Event-ID", "X-API-Key", "X-Request-Id"),
    *tus_headers.REQUEST_HEADERS,
)
ANSWER_HEADERS = (
    *("Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"),
    *tus_headers.ANSWER_HEADERS,
)
"""Those that a page of an allowed origin may read."""

PREFLIGHT_S = 600


class BrowserGuard:
    """ASGI middleware that refuses what a strange page wants, and adds the security headers."""

    def __init__(self, app: ASGIApp, allowed: AllowedOrigins) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or socket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def guarded_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(scope, MutableHeaders(raw=message.setdefault("headers", [])))
            await send(message)

        try:
            self._allowed.check(scope)
        except (UnknownHost, ForbiddenOrigin) as error:
            await _refuse(scope, receive, guarded_send, error)
            return
        await self._app(scope, receive, guarded_send)


def install_browser_guard(app: FastAPI, settings: Settings) -> None:
    """Have ``app`` check Host and Origin, and let pages of the allowed origins use it."""
    if origins := settings.allowed_origin_set:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(origins),
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            expose_headers=ANSWER_HEADERS,
            max_age=PREFLIGHT_S,
        )
    app.add_middleware(BrowserGuard, allowed=AllowedOrigins.of(settings))


async def _refuse(
    scope: Scope, receive: Receive, send: Send, error: UnknownHost | ForbiddenOrigin
) -> None:
    if scope["type"] == "websocket":
        response = Response(status_code=403)
        await WebSocket(scope, receive, send).send_denial_response(response)
        return
    answer = await scope["app"].state.answer_error(Request(scope), error)
    await answer(scope, receive, send)


def _add_headers(scope: Scope, headers: MutableHeaders) -> None:
    if scope["path"] in DOCUMENTATION:
        headers["Content-Security-Policy"] = DOCUMENTATION_POLICY
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if "etag" not in headers:
        # Transcripts are nobody else's, and caches do not know that X-API-Key is a key.
        headers.setdefault("Cache-Control", "no-store")
