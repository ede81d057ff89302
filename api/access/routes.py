"""What each route demands, declared above it, and the check of it.

``@needs(Scope.JOBS_READ)`` or ``@public`` stands above ``@router.get(...)`` and
``@router.websocket(...)``. A route that declares nothing is refused to everybody. The OpenAPI
document and the table in docs/security.md say the same.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection
from starlette.responses import Response
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

_SHARED: set[Any] = set()
"""Endpoints that a share link of the job in their path opens, too."""

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def needs(scope: Scope) -> Callable[[Endpoint], Endpoint]:
    """Declare that only a credential with this scope may call the endpoint."""

    def declare(endpoint: Endpoint) -> Endpoint:
        _DECLARED[endpoint] = scope
        return endpoint

    return declare


def shared(endpoint: Endpoint) -> Endpoint:
    """Declare that a share link of the job in its path opens the endpoint, too; it only reads."""
    _SHARED.add(endpoint)
    return endpoint


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
        CsrfTokenWrong: the page's cookie comes without its token.
        ScopeMissing: they may not.
        DatabaseUnavailable, BrokerUnavailable: the credential cannot be looked up.
    """
    scope = _scope_of(request)
    if scope is None:
        return
    authenticator: Authenticator = request.app.state.resources.authenticator
    by_link = None
    if request.scope["endpoint"] in _SHARED:
        by_link = await authenticator.of_share(request.headers, request.path_params["job_id"])
    principal = by_link or await authenticator.of_request(request.method, request.headers)
    request.state.principal = principal
    principal_of_request.set(principal)
    if by_link is None:
        check_scope(principal, scope)


async def admit(
    websocket: WebSocket,
    answer: Callable[[HTTPConnection, Exception], Response] = error_response,
    token: str = "",
) -> Principal | None:
    """Return who opens a WebSocket; None: they may not, and have been told so as by ``authorize``.

    The WebSocket is not accepted yet. ``answer`` makes the answer of a dialect; ``token`` is one
    that the dialect has in its query.
    """
    authenticator: Authenticator = websocket.app.state.resources.authenticator
    try:
        scope = _scope_of(websocket)
        principal = await authenticator.of_websocket(websocket, token)
        if scope is not None:
            check_scope(principal, scope)
    except LonghandError as error:
        await websocket.send_denial_response(answer(websocket, error))
        return None
    websocket.state.principal = principal
    websocket.state.subprotocol = chosen_subprotocol(websocket.scope.get("subprotocols") or ())
    return principal


def _scope_of(connection: HTTPConnection) -> Scope | None:
    """Return the scope that a request's or a WebSocket's route demands; None: it is public.

    Raises:
        Unauthenticated: it declares nothing.
    """
    try:
        return declared_scope(connection.scope["endpoint"])
    except KeyError as error:
        raise Unauthenticated("this route is closed") from error
