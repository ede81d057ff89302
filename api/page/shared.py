"""``/s``: where share links lead. The page hands their token over, and gets it back as a cookie."""

from datetime import UTC, datetime
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.access.cookies import cookie_options
from api.access.routes import public
from api.access.share_links import COOKIE, COOKIE_S
from api.native.share_links import PATH
from api.page.files import shell
from api.resources import Provided
from shared.store.jobs.read import get_job

router = APIRouter(include_in_schema=False)


class OpenedLink(BaseModel):
    """A share link's token."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(min_length=1, max_length=100)


class SharedJob(BaseModel):
    """What the page tells of a job to whoever has a link to it."""

    job_id: UUID
    name: str
    expires_at: datetime


@public
@router.get(PATH)
async def show_shared(request: Request) -> Response:
    """Return the page, which search engines are to leave alone."""
    page = shell(request)
    page.headers["X-Robots-Tag"] = "noindex"
    return page


@public
@router.post(PATH)
async def open_link(
    opened: OpenedLink, request: Request, response: Response, resources: Provided
) -> SharedJob:
    """Exchange a link's token for a cookie that opens its job's transcript, audio and peaks.

    Raises:
        ShareLinkNotFound: it was never made, has expired or was revoked.
    """
    shared = await resources.authenticator.open_share(opened.token)
    job = await to_thread.run_sync(get_job, resources.engine, shared.tenant, shared.job_id)
    left_s = int((shared.expires_at - datetime.now(UTC)).total_seconds())
    response.set_cookie(
        COOKIE,
        opened.token,
        max_age=max(1, min(left_s, COOKIE_S)),
        path=f"/jobs/{shared.job_id}",
        **cookie_options(request, resources.settings),
    )
    return SharedJob(job_id=job.id, name=job.source_name, expires_at=shared.expires_at)
