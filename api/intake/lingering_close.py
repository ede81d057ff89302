"""Lingering close: an upload is refused so that the refusal arrives.

If a server closes a connection while the client still sends, TCP resets it, and the reset may
overtake the answer. So the answer goes out at once, and what the client still sends is read and
thrown away for a while before the connection is closed, as in nginx (``lingering_close``).
"""

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_S = 5.0
"""nginx's default ``lingering_timeout``; here it limits the whole time, not each pause."""


class LingeringClose:
    """ASGI middleware; it never holds more than one message of the discarded body."""

    def __init__(self, app: ASGIApp, linger_s: float = LINGER_S) -> None:
        self._app = app
        self._linger_s = linger_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        headers = dict(scope["headers"])
        body_open = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
        # Such a client sends no body before it is told to continue; reading tells it to.
        waits_to_be_asked = headers.get(b"expect", b"").lower() == b"100-continue"
        linger = False

        async def watched_receive() -> Message:
            nonlocal body_open, waits_to_be_asked
            waits_to_be_asked = False
            message = await receive()
            body_open = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def lingering_send(message: Message) -> None:
            nonlocal linger
            if message["type"] == "http.response.start" and body_open:
                linger = not waits_to_be_asked
                message = {
                    **message,
                    "headers": [*message.get("headers", []), (b"connection", b"close")],
                }
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if not (last and linger):
                await send(message)
                return
            await send({**message, "more_body": True})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._linger_s):
                    while body_open:
                        await watched_receive()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app(scope, watched_receive, lingering_send)
