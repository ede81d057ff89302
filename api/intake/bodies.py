"""Request bodies other than uploads: read within a bound, and documented."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from api.intake.upload import IDLE_S
from api.problems import describe, summarize
from shared.infra.errors import InvalidRequest, UnsupportedMediaType, UploadStalled
from shared.infra.quantities import duration, size

MAX_JSON_BYTES = 64 * 1024

Model = TypeVar("Model", bound=BaseModel)


async def read_json(request: Request, model: type[Model]) -> Model:
    """Return the request's body as ``model`` has it.

    Raises:
        UnsupportedMediaType: the body is not ``application/json``.
        InvalidRequest: it is malformed, or larger than ``MAX_JSON_BYTES``.
        UploadStalled: it does not come to its end.
    """
    _, body = await read_body(request, ("application/json",), MAX_JSON_BYTES)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        wrong = summarize(describe(error, model.model_fields))
        raise InvalidRequest(f"the body is wrong: {wrong}") from error


async def read_body(
    request: Request, media_types: Sequence[str], max_bytes: int
) -> tuple[str, bytes]:
    """Return which of ``media_types`` the request's body has, and the body.

    Raises:
        UnsupportedMediaType: it has another one.
        InvalidRequest: it is larger than ``max_bytes``.
        UploadStalled: it does not come to its end.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in media_types:
        raise UnsupportedMediaType(
            f"send the body as {' or '.join(media_types)}, with "
            f"curl -H 'Content-Type: {media_types[0]}'; this one is {media_type or 'of no type'}"
        )
    body = bytearray()
    try:
        async with asyncio.timeout(IDLE_S):
            async for data in request.stream():
                body += data
                if len(body) > max_bytes:
                    raise InvalidRequest(f"the body is larger than {size(max_bytes)}")
    except TimeoutError as error:
        raise UploadStalled(f"the body did not come whole within {duration(IDLE_S)}") from error
    return media_type, bytes(body)


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the documentation of a body that ``read_json`` reads."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}
