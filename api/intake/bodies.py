"""Request bodies: read within bounds of time and size, and documented."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from api.intake.submit import LIMIT_S
from api.validation import refusal
from shared.infra.errors import InvalidRequest, UnsupportedMediaType, UploadStalled
from shared.infra.quantities import duration, size

IDLE_S = 30.0
"""How long a client may send nothing; proxies usually allow 30 to 60 s."""

MIN_BYTES_S = 1024
"""An upload may not be slower for longer than ``IDLE_S``. Speech that is encoded and sent while it
is spoken has twice as much."""

MAX_JSON_BYTES = 64 * 1024

Model = TypeVar("Model", bound=BaseModel)


def client_network(request: Request) -> str:
    """Return what tells clients apart: an IPv4 address, or a network of IPv6.

    Whoever has one address of IPv6 usually has a network of 64 bits.
    """
    host = "" if request.client is None else request.client.host
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return host if address.version == 4 else str(ip_network((host, 64), strict=False))


def declared_bytes(request: Request) -> int | None:
    """Return the size of the body that the request declares, if it does."""
    declared = request.headers.get("content-length")
    return None if declared is None else int(declared)


async def read_upload(
    request: Request,
    count_bytes: Callable[[int], None],
    *,
    idle_s: float = IDLE_S,
    limit_s: float = LIMIT_S,
) -> AsyncIterator[bytes]:
    """Yield the body as it comes, as long as it comes; ``count_bytes`` is told of each piece.

    The time for which the client is waited for is what counts: it may use up ``idle_s``, and gets
    time back for what it sends. What it sends while it is not read from costs it no time.

    Raises:
        UploadStalled: nothing came for ``idle_s``, on average less than ``MIN_BYTES_S`` came, or
            the end did not come within ``limit_s``.
        ClientDisconnect: the client went away.
    """
    clock = asyncio.get_running_loop().time
    ends = clock() + limit_s
    left_s = idle_s
    stream = request.stream()
    while True:
        asked_at = clock()
        try:
            async with asyncio.timeout(left_s):
                piece = await anext(stream, None)
        except TimeoutError as error:
            if left_s == idle_s:
                raise UploadStalled(f"nothing was received for {duration(idle_s)}") from error
            raise UploadStalled(f"less than {size(MIN_BYTES_S)} a second was received") from error
        if piece is None:
            return
        if clock() > ends:
            raise UploadStalled(f"the upload took longer than {duration(limit_s)}")
        left_s = min(idle_s, left_s - (clock() - asked_at) + len(piece) / MIN_BYTES_S)
        count_bytes(len(piece))
        yield piece


async def read_json(request: Request, model: type[Model]) -> Model:
    """Return the request's JSON body, validated; no value of another type is converted.

    Raises:
        UnsupportedMediaType: the body is not ``application/json``.
        InvalidRequest: it is malformed, or larger than ``MAX_JSON_BYTES``.
        UploadStalled: it does not arrive whole within ``IDLE_S``.
    """
    _, body = await read_body(request, ("application/json",), MAX_JSON_BYTES)
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise refusal(error, model.model_fields, "the body is wrong: ") from error


async def read_body(
    request: Request, media_types: Sequence[str], max_bytes: int
) -> tuple[str, bytes]:
    """Return the media type of the request's body, one of ``media_types``, and the body.

    Raises:
        UnsupportedMediaType: it has another one.
        InvalidRequest: it is larger than ``max_bytes``.
        UploadStalled: it does not arrive whole within ``IDLE_S``.
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
