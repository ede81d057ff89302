"""Search in the tenant's transcripts."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from api.access.routes import needs
from api.native.ids import NOT_OURS, cursor_parameter
from api.native.schemas.search import SearchHit, SearchPage
from api.openapi import problems
from api.resources import Provided, Tenant
from shared.infra.errors import InvalidRequest
from shared.store.accounts.scopes import Scope
from shared.store.search import FIRST, Place, search

router = APIRouter(tags=["jobs"])

MAX_CHARS = 200
_UUID_BYTES, _IDX_BYTES = 16, 4


# A coroutine, though it waits for nothing: FastAPI calls other functions in a thread.
async def _place(
    # The base64 of 20 bytes: the last two of the 162 bits that 27 digits have are 0.
    cursor: Annotated[str, cursor_parameter("[A-Za-z0-9_-]{26}[AEIMQUYcgkosw048]")] = "",
) -> Place:
    if not cursor:
        return FIRST
    try:
        packed = urlsafe_b64decode(f"{cursor}=")
        place = Place(UUID(bytes=packed[:_UUID_BYTES]), int.from_bytes(packed[_UUID_BYTES:]))
        if _cursor(place) == cursor:
            return place
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(NOT_OURS)


def _cursor(place: Place) -> str:
    packed = place.transcript_id.bytes + place.idx.to_bytes(_IDX_BYTES)
    return urlsafe_b64encode(packed).decode().rstrip("=")


@needs(Scope.JOBS_READ)
@router.get("/search", summary="Search in transcripts", responses=problems())
def search_transcripts(
    resources: Provided,
    tenant: Tenant,
    after: Annotated[Place, Depends(_place)],
    q: Annotated[
        str,
        Query(
            min_length=1,
            max_length=MAX_CHARS,
            pattern=r"^[^\x00]*$",
            openapi_examples={"words": {"value": "thank you"}},
            description='words, "phrases" and beginnings*, all of which a segment must have',
        ),
    ],
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> SearchPage:
    """Find segments of transcripts by what was said, the newest transcripts first.

    A hit is a segment that has all words, phrases and beginnings of words that are asked for.
    Case and accents do not count; words are found as they were said, not in other forms. In scripts
    that write no spaces, and in Korean, any run of characters is found. What was deleted is not.
    """
    found = search(resources.engine, tenant, q, limit=limit + 1, after=after)
    page = found[:limit]
    return SearchPage(
        hits=[SearchHit.of(hit) for hit in page],
        next_cursor=_cursor(page[-1].place) if len(found) > limit else None,
    )
