"""HTTP methods: HEAD and OPTIONS, which no route names, and ``Allow``, which lists them all."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from anyio import CancelScope
from fastapi.routing import iter_route_contexts
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_NAMED = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""The methods that routes name, in the order in which ``Allow`` lists them."""


class Methods:
    """ASGI middleware, the innermost: it stands before the router.

    It answers HEAD as GET, without the body, and OPTIONS with 204. To a method that the path lacks
    the router answers 405; its ``Allow``, of the first route that has the path, is completed.

    A literal path is never the value of a parameter: ``/webhooks/deliveries`` has no PATCH, though
    ``/webhooks/{webhook_id}`` has.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._literal: Mapping[str, Collection[str]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        if method == "OPTIONS" and (allowed := self._allowed(scope)):
            await Response(status_code=204, headers={"Allow": allowed})(scope, receive, send)
            return
        send = self._completing_allow(scope, send)
        named = "GET" if method == "HEAD" else method
        if named not in self._literal_methods(scope).get(_path(scope), (named,)):
            # No route has OPTIONS, so the router answers 405.
            await self._app({**scope, "method": "OPTIONS"}, receive, send)
        elif method == "HEAD":
            await self._answer_head(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        as_get = {**scope, "method": "GET"}
        with CancelScope() as answer:

            async def send_head(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await send(message)
                    return
                await send({"type": "http.response.body"})
                answer.cancel()  # a stream of events would go on for as long as its job

            try:
                await self._app(as_get, receive, send_head)
            finally:
                if "route" in as_get:  # metrics are by route
                    scope["route"] = as_get["route"]

    def _completing_allow(self, scope: Scope, send: Send) -> Send:
        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 405:
                others = [each for each in message["headers"] if each[0].lower() != b"allow"]
                allowed = self._allowed(scope).encode()
                message = {**message, "headers": [*others, (b"allow", allowed)]}
            await send(message)

        return complete

    def _allowed(self, scope: Scope) -> str:
        """Return the value of ``Allow`` for the request's path; "" if no route has the path."""
        found = self._literal_methods(scope).get(_path(scope))
        if found is None:
            routes: Sequence[BaseRoute] = scope["app"].router.routes
            found = [
                method for method in _NAMED if any(_takes(route, scope, method) for route in routes)
            ]
        ordered = [method for method in _NAMED if method in found]
        if not ordered:
            return ""
        if ordered[0] == "GET":
            ordered.insert(1, "HEAD")
        return ", ".join([*ordered, "OPTIONS"])

    def _literal_methods(self, scope: Scope) -> Mapping[str, Collection[str]]:
        """Return the methods of each path without parameters."""
        if self._literal is None:
            literal: dict[str, set[str]] = defaultdict(set)
            for route in iter_route_contexts(scope["app"].router.routes):
                if route.methods and route.path and "{" not in route.path:
                    literal[route.path] |= route.methods
            self._literal = dict(literal)
        return self._literal


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _takes(route: BaseRoute, scope: Scope, method: str) -> bool:
    if isinstance(route, Mount) and method != "GET":  # only files are mounted
        return False
    asked = {name: scope[name] for name in ("type", "path", "root_path", "headers")}
    match, _ = route.matches({**asked, "method": method})
    return match is Match.FULL
