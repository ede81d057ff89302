"""What each route demands, declared above it, and the check of it.

``@needs(Scope.JOBS_READ)`` or ``@public`` stands above ``@router.get(...)``. A route that declares
nothing is refused to everybody. The OpenAPI document says the same.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.websockets import WebSocket

from api.access.authenticator import Authenticator, check_scope
from api.access.credentials import chosen_subprotocol
from api.access.principal import Principal, principal_of_request
from api.problems import error_response
from shared.infra.errors import LonghandError, Unauthenticated
from shared.store.accounts.scopes import Scope

SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "an API key, `lh_live_...`, or a JWT where the operator takes them",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
"""The security schemes of the OpenAPI document."""

_DECLARED: dict[Any, Scope | None] = {}
"""By endpoint: the scope that it demands; None: it is public."""

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def needs(scope: Scope) -> Callable[[Endpoint], Endpoint]:
    """Declare that only a credential with this scope may call the endpoint."""

    def declare(endpoint: Endpoint) -> Endpoint:
        _DECLARED[endpoint] = scope
        return endpoint

    return declare


def public(endpoint: Endpoint) -> Endpoint:
    """Declare that anybody may call the endpoint."""
    _DECLARED[endpoint] = None
    return endpoint


def declared_scope(endpoint: Any) -> Scope | None:
    """Return the scope that an endpoint demands; None: it is public.

    Raises:
        KeyError: it declares nothing.
    """
    return _DECLARED[endpoint]


def document_access(router: APIRouter) -> None:
    """Have the OpenAPI document say what the endpoints of a router demand."""
    for route in router.routes:
        if isinstance(route, APIRoute) and route.endpoint in _DECLARED:
            scope = _DECLARED[route.endpoint]
            demands = [] if scope is None else [{name: [str(scope)]} for name in SCHEMES]
            route.openapi_extra = {**(route.openapi_extra or {}), "security": demands}


async def authorize(request: Request) -> None:
    """Find out who asks, and check that they may; a dependency of every route, before all others.

    Raises:
        Unauthenticated: nobody knows who asks.
        ScopeMissing: they may not.
        DatabaseUnavailable: the key cannot be looked up.
    """
    try:
        scope = declared_scope(request.scope["endpoint"])
    except KeyError as error:
        raise Unauthenticated("this route is closed") from error
    if scope is None:
        return
    authenticator: Authenticator = request.app.state.resources.authenticator
    principal = await authenticator.of_request(request.headers)
    request.state.principal = principal
    principal_of_request.set(principal)
    check_scope(principal, scope)


async def admit(websocket: WebSocket, scope: Scope) -> Principal | None:
    """Return who opens a WebSocket; None: they may not, and have been told so as by ``authorize``.

    The WebSocket is not accepted yet.
    """
    authenticator: Authenticator = websocket.app.state.resources.authenticator
    try:
        principal = await authenticator.of_websocket(websocket)
        check_scope(principal, scope)
    except LonghandError as error:
        await websocket.send_denial_response(error_response(websocket, error))
        return None
    websocket.state.principal = principal
    websocket.state.subprotocol = chosen_subprotocol(websocket.scope.get("subprotocols") or ())
    return principal
