"""Unknown query parameters are refused, as unknown form fields are."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import Request
from fastapi.dependencies.models import Dependant

from api.spelling import right_names, with_nearest
from shared.infra.errors import InvalidRequest, MisnamedField

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
    extra = route.openapi_extra or {}
    known = [*_parameters(route.dependant), *_documented(extra)]
    unknown = [name for name in request.query_params if name not in known]
    if not unknown:
        return
    if known:
        instead = f"this endpoint has {', '.join(known)}"
    elif "requestBody" in extra:
        instead = "this endpoint has none: what it takes is sent in the body"
    else:
        instead = "this endpoint has none"
    most = unknown[:_MOST_TOLD]
    told = f"unknown query parameters: {with_nearest(most, known)}; {instead}"
    names = right_names(most, known)
    raise MisnamedField(told, names) if names else InvalidRequest(told)


def _documented(extra: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the query parameters that an endpoint reads itself."""
    for parameter in extra.get("parameters", ()):
        if parameter["in"] == "query":
            yield parameter["name"]


def _parameters(dependant: Dependant) -> Iterator[str]:
    """Yield the names of an endpoint's query parameters, including those of its dependencies."""
    yield from (field.alias for field in dependant.query_params)
    for each in dependant.dependencies:
        yield from _parameters(each)
