"""Unknown query parameters are refused, as unknown form fields are."""

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant

from api.spelling import with_nearest
from shared.infra.errors import InvalidRequest

_MOST_TOLD = 8
"""The most unknown parameters that an answer names: a query may have thousands."""


async def refuse_unknown_parameters(request: Request) -> None:
    """Refuse a query with a parameter that the route does not have; a dependency of every route.

    It waits for nothing, but must be a coroutine: FastAPI calls plain functions in a thread, and
    health probes must not depend on a free thread.

    Raises:
        InvalidRequest: the query has one.
    """
    if not request.url.query:
        return
    route = request.scope["route"]
    known = list(_parameters(route.dependant))
    unknown = [name for name in request.query_params if name not in known]
    if not unknown:
        return
    if known:
        instead = f"this endpoint has {', '.join(known)}"
    elif "requestBody" in (route.openapi_extra or {}):
        instead = "this endpoint has none: what it takes is sent in the body"
    else:
        instead = "this endpoint has none"
    told = with_nearest(unknown[:_MOST_TOLD], known)
    raise InvalidRequest(f"unknown query parameters: {told}; {instead}")


def _parameters(dependant: Dependant) -> Iterator[str]:
    """Yield the names of an endpoint's query parameters, including those of its dependencies."""
    yield from (field.alias for field in dependant.query_params)
    for each in dependant.dependencies:
        yield from _parameters(each)
