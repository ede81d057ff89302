"""What every answer of the tus endpoints has, and methods that are named in a header."""

from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX = "/uploads/tus"
VERSION = "1.0.0"
MEDIA_TYPE = "application/offset+octet-stream"
EXTENSIONS = ("creation", "creation-with-upload", "termination", "expiration", "checksum")
CHECKSUMS = ("md5", "sha1", "sha256")

REQUEST_HEADERS = (
    "Tus-Resumable",
    "Upload-Checksum",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
    "X-HTTP-Method-Override",
)
ANSWER_HEADERS = (
    "Tus-Checksum-Algorithm",
    "Tus-Extension",
    "Tus-Max-Size",
    "Tus-Resumable",
    "Tus-Version",
    "Upload-Expires",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
)
"""Headers that pages of allowed origins may send and read."""


class TusHeaders:
    """ASGI middleware for the paths at ``PREFIX`` and below it."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        """``max_bytes``: the largest upload, unless a tenant's own limit is another."""
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == PREFIX or path.startswith(f"{PREFIX}/")):
            await self._app(scope, receive, send)
            return
        # Some environments cannot send PATCH.
        override = Headers(scope=scope).get("x-http-method-override", "").upper()
        if scope["method"] == "POST" and override in ("PATCH", "DELETE", "HEAD"):
            scope = {**scope, "method": override}
        describes = scope["method"] == "OPTIONS"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in self._headers(message["status"], describes=describes):
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _headers(self, status: int, *, describes: bool) -> Sequence[tuple[str, str]]:
        headers = [("Tus-Resumable", VERSION)]
        if describes or status == 412:
            headers.append(("Tus-Version", VERSION))
        if describes:
            headers += [
                ("Tus-Extension", ",".join(EXTENSIONS)),
                ("Tus-Max-Size", str(self._max_bytes)),
                ("Tus-Checksum-Algorithm", ",".join(CHECKSUMS)),
            ]
        return headers
