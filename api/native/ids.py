"""Ids in requests: in paths, in filters, and as the cursors of pages."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Path, Query

from shared.infra.errors import (
    BatchNotFound,
    DeliveryNotFound,
    InvalidRequest,
    JobNotFound,
    KeyNotFound,
    RequestError,
    ShareLinkNotFound,
    WebhookNotFound,
)

NOT_OURS = "the cursor is not one that we gave out"

UUID_SCHEMA = {"json_schema_extra": {"format": "uuid"}}
"""Of parameters that are ids but read as text: a malformed id has an answer of ours."""

_PathId = Annotated[str, Path(**UUID_SCHEMA)]


def parse_id(text: str) -> UUID | None:
    """Return the id, if written as we write ids; ``UUID`` alone takes braces and more."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text.lower() else None


def optional_id(text: str | None, otherwise: str) -> UUID | None:
    """Return the id in a query parameter, None if the query lacks it.

    Raises:
        InvalidRequest: the parameter is no id; ``otherwise`` is the message.
    """
    if text is None:
        return None
    return _id(text, InvalidRequest(otherwise))


def _id(text: str, otherwise: RequestError) -> UUID:
    found = parse_id(text)
    if found is None:
        raise otherwise
    return found


# These are coroutines, though they wait for nothing: FastAPI calls other functions in a thread.
async def _job_id(job_id: _PathId) -> UUID:
    return _id(job_id, JobNotFound(f"there is no job {job_id}"))


async def _webhook_id(webhook_id: _PathId) -> UUID:
    return _id(webhook_id, WebhookNotFound(f"there is no webhook {webhook_id}"))


async def _delivery_id(delivery_id: _PathId) -> UUID:
    return _id(delivery_id, DeliveryNotFound(f"there is no delivery {delivery_id}"))


async def _share_id(share_id: _PathId) -> UUID:
    return _id(share_id, ShareLinkNotFound(f"there is no share link {share_id}"))


async def _key_id(key_id: _PathId) -> UUID:
    return _id(key_id, KeyNotFound(f"there is no key {key_id}"))


def cursor_parameter(pattern: str) -> Any:
    """Return the query parameter of cursors that match a pattern."""
    return Query(
        description="next_cursor of the page before; none or empty: the first page",
        json_schema_extra={"pattern": f"^({pattern})?$"},
    )


async def _cursor(
    cursor: Annotated[
        str, cursor_parameter("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
    ] = "",
) -> UUID | None:
    return optional_id(cursor or None, NOT_OURS)


async def _job_cursor(
    # The base64 of a positive 64-bit integer: its first bit is 0, and so are the last two of the
    # 66 that eleven digits have.
    cursor: Annotated[str, cursor_parameter("[A-Za-f][A-Za-z0-9_-]{9}[AEIMQUYcgkosw048]")] = "",
) -> int | None:
    if not cursor:
        return None
    try:
        first_event = int.from_bytes(urlsafe_b64decode(f"{cursor}="))
        if job_cursor(first_event) == cursor:
            return first_event
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(NOT_OURS)


def job_cursor(first_event: int) -> str:
    """Return the cursor of the page after the job of this ``first_event``."""
    return urlsafe_b64encode(first_event.to_bytes(8, signed=True)).decode().rstrip("=")


async def _batch_id(batch_id: _PathId) -> UUID:
    return _id(batch_id, BatchNotFound(f"there is no batch {batch_id}"))


MAX_WORKER_ID_CHARS = 400
WorkerId = Annotated[
    str,
    Path(
        max_length=MAX_WORKER_ID_CHARS,
        pattern=r"^[^\x00]+$",
        description="as GET /workers has it",
    ),
]
JobId = Annotated[UUID, Depends(_job_id)]
BatchId = Annotated[UUID, Depends(_batch_id)]
WebhookId = Annotated[UUID, Depends(_webhook_id)]
DeliveryId = Annotated[UUID, Depends(_delivery_id)]
ShareId = Annotated[UUID, Depends(_share_id)]
KeyId = Annotated[UUID, Depends(_key_id)]
Cursor = Annotated[UUID | None, Depends(_cursor)]
"""The last item of the page before, None on the first page."""
JobCursor = Annotated[int | None, Depends(_job_cursor)]
"""``first_event`` of the last job of the page before, None on the first page."""
