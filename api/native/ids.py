"""Ids in requests: in paths, in filters, and as the cursors of pages."""

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
    return optional_id(cursor, "the cursor is not one that we gave out")


JobId = Annotated[UUID, Depends(_job_id)]
WebhookId = Annotated[UUID, Depends(_webhook_id)]
DeliveryId = Annotated[UUID, Depends(_delivery_id)]
Cursor = Annotated[UUID | None, Depends(_cursor)]
"""The last item of the page before, None on the first page."""
