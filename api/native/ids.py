"""Ids in requests: in paths, in filters, and as the cursors of pages."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query

from shared.infra.errors import (
    DeliveryNotFound,
    InvalidRequest,
    JobNotFound,
    RequestError,
    WebhookNotFound,
)

_NOT_OURS = "the cursor is not one that we gave out"


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
async def _job_id(job_id: str) -> UUID:
    return _id(job_id, JobNotFound(f"there is no job {job_id}"))


async def _webhook_id(webhook_id: str) -> UUID:
    return _id(webhook_id, WebhookNotFound(f"there is no webhook {webhook_id}"))


async def _delivery_id(delivery_id: str) -> UUID:
    return _id(delivery_id, DeliveryNotFound(f"there is no delivery {delivery_id}"))


async def _cursor(
    cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
) -> UUID | None:
    return optional_id(cursor, _NOT_OURS)


async def _job_cursor(
    cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
) -> int | None:
    if cursor is None:
        return None
    try:
        first_event = int.from_bytes(urlsafe_b64decode(f"{cursor}="))
        if job_cursor(first_event) == cursor:
            return first_event
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(_NOT_OURS)


def job_cursor(first_event: int) -> str:
    """Return the cursor of the page after the job of this ``first_event``."""
    return urlsafe_b64encode(first_event.to_bytes(8, signed=True)).decode().rstrip("=")


JobId = Annotated[UUID, Depends(_job_id)]
WebhookId = Annotated[UUID, Depends(_webhook_id)]
DeliveryId = Annotated[UUID, Depends(_delivery_id)]
Cursor = Annotated[UUID | None, Depends(_cursor)]
"""The last item of the page before, None on the first page."""
JobCursor = Annotated[int | None, Depends(_job_cursor)]
"""``first_event`` of the last job of the page before, None on the first page."""
