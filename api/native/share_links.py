"""Share links of a job: made, listed, revoked. ``api.page.shared`` opens them."""

from functools import partial

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from api.access.routes import needs
from api.intake.bodies import json_body, read_json
from api.native.ids import JobId, ShareId
from api.native.schemas import members
from api.native.schemas.share_links import NewShareLink, ShareLink, ShareLinkList, ShareLinkWithUrl
from api.openapi import BODY_ERRORS, problems
from api.resources import Provided, Tenant
from shared.infra.errors import (
    JobNotFound,
    ShareLinkNotFound,
    TooManyShareLinks,
    TranscriptDeleted,
    TranscriptNotReady,
)
from shared.store.accounts.scopes import Scope
from shared.store.share_links import create_share_link, list_share_links, revoke_share_link

router = APIRouter(tags=["jobs"])

PATH = "/s"
"""Where links are opened; their tokens are fragments, which no log has."""


@needs(Scope.JOBS_WRITE)
@router.post(
    "/jobs/{job_id}/shares",
    summary="Share a transcript",
    status_code=201,
    response_model=ShareLinkWithUrl,
    openapi_extra=json_body(NewShareLink),
    responses=problems(
        *(JobNotFound, TranscriptNotReady, TranscriptDeleted, TooManyShareLinks, *BODY_ERRORS)
    ),
)
async def share_job(
    job_id: JobId, request: Request, resources: Provided, tenant: Tenant
) -> ShareLinkWithUrl:
    """Make a link that opens the job's transcript and audio in a browser, without a key.

    Whoever has the link reads, listens and downloads until it expires or is revoked, and changes
    nothing. It also opens the text as it was heard: what a correction leaves out is not hidden.
    """
    new = await read_json(request, NewShareLink)
    create = partial(create_share_link, resources.engine, tenant, job_id, **dict(new))
    view, token = await to_thread.run_sync(create)
    url = f"{resources.settings.public_url}{PATH}#{token}"
    return ShareLinkWithUrl(**members(view), url=url)


@needs(Scope.JOBS_READ)
@router.get(
    "/jobs/{job_id}/shares", summary="List a job's share links", responses=problems(JobNotFound)
)
def show_shares(job_id: JobId, resources: Provided, tenant: Tenant) -> ShareLinkList:
    """List the links that are valid, without what opens them."""
    found = list_share_links(resources.engine, tenant, job_id)
    return ShareLinkList(shares=[ShareLink(**members(view)) for view in found])


@needs(Scope.JOBS_WRITE)
@router.delete(
    "/jobs/{job_id}/shares/{share_id}",
    summary="Revoke a share link",
    status_code=204,
    responses=problems(JobNotFound, ShareLinkNotFound),
)
def revoke_share(job_id: JobId, share_id: ShareId, resources: Provided, tenant: Tenant) -> Response:
    """Revoke a share link: the next request with it is refused."""
    revoke_share_link(resources.engine, tenant, job_id, share_id)
    return Response(status_code=204)
