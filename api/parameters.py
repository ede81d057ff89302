"""Query parameters that an endpoint does not have: refused, as unknown fields of a form are."""

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant

from api.spelling import with_nearest
from shared.errors import InvalidRequest


def refuse_unknown_parameters(request: Request) -> None:
    """Refuse a query with a parameter that the route does not have; a dependency of every route.

    Raises:
        InvalidRequest: the query has one.
    """
    route = request.scope["route"]
    known = [*_parameters(route.dependant)]
    unknown = [name for name in request.query_params if name not in known]
    if not unknown:
        return
    if known:
        instead = f"there {'is' if len(known) == 1 else 'are'} {', '.join(known)}"
    elif "requestBody" in (route.openapi_extra or {}):
        instead = "this endpoint has none: what it takes is sent in the body"
    else:
        instead = "this endpoint has none"
    raise InvalidRequest(f"unknown query parameters: {with_nearest(unknown, known)}; {instead}")


def _parameters(dependant: Dependant) -> Iterator[str]:
    """Yield the names of an endpoint's query parameters, those of its dependencies included."""
    yield from (field.alias for field in dependant.query_params)
    for each in dependant.dependencies:
        yield from _parameters(each)
