"""Submitting jobs and asking after them."""

import logging
from typing import Annotated
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from uuid_utils.compat import uuid7

from api.openapi import job_form, problems
from api.problems import error_response
from api.resources import Provided, Resources, Tenant
from api.schemas import Job, JobPage, JobSummary
from api.uploads import Form, Receiver
from shared.database import ping
from shared.errors import (
    CommitUncertain,
    DatabaseUnavailable,
    InvalidRequest,
    JobNotFound,
    StorageUnavailable,
    TranscriptNotReady,
    UnknownFormat,
)
from shared.formats import FORMATS, render
from shared.jobs import JobView, get_job, get_transcript, list_jobs
from shared.steps import NewJob, cancel_job, create_job
from shared.tables import JobState

log = logging.getLogger(__name__)

router = APIRouter(tags=["jobs"])

_UNAVAILABLE = "Postgres or the object store is away; see Retry-After"


@router.post(
    "/jobs",
    status_code=202,
    response_model=JobSummary,
    openapi_extra=job_form(),
    responses=problems(
        {
            408: "The sender fell silent",
            413: "The file is over the size limit",
            415: "The body is not multipart/form-data",
            422: "The form, an option or the file is wrong",
            503: _UNAVAILABLE,
        }
    )
    | {
        202: {
            "description": "The job is committed and its file stored",
            "headers": {"Location": {"schema": {"type": "string"}, "description": "the job"}},
        }
    },
)
async def submit_job(
    request: Request, response: Response, resources: Provided, tenant: Tenant
) -> JobSummary:
    """Take a file and queue its transcription."""
    settings = resources.settings
    job_id = uuid7()
    with resources.upload_slots:
        # A database that is away is told before the upload, not after.
        await to_thread.run_sync(ping, resources.engine)
        receiver = Receiver(
            resources.storage,
            f"jobs/{job_id}/source",
            max_bytes=settings.max_upload_bytes,
            threads=resources.upload_threads,
            count_bytes=resources.upload_bytes.inc,
        )
        received = await receiver.receive(
            request, Form(resources.catalogue, settings.default_model)
        )
    job = NewJob(
        id=job_id,
        tenant=tenant,
        options=received.options,
        source_key=receiver.key,
        source_name=received.name,
        source_bytes=received.n_bytes,
        sha256=received.sha256,
    )
    view = await to_thread.run_sync(_commit, resources, job)
    response.headers["Location"] = f"/jobs/{job_id}"
    return JobSummary.of(view)


@router.get("/jobs", responses=problems({422: "A bad limit or cursor", 503: _UNAVAILABLE}))
def show_jobs(
    resources: Provided,
    tenant: Tenant,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
) -> JobPage:
    """List jobs, newest first."""
    before = None
    if cursor is not None:
        before = _parse_id(cursor)
        if before is None:
            raise InvalidRequest("the cursor is not one that we gave out")
    found = list_jobs(resources.engine, tenant, limit=limit + 1, before=before)
    page = found[:limit]
    return JobPage(
        jobs=[JobSummary.of(view) for view in page],
        next_cursor=str(page[-1].id) if len(found) > limit else None,
    )


@router.get("/jobs/{job_id}", responses=problems({404: "No such job", 503: _UNAVAILABLE}))
def show_job(job_id: str, resources: Provided, tenant: Tenant) -> Job:
    """Tell a job's state and progress, and its transcript once it has succeeded."""
    view = get_job(resources.engine, tenant, _existing_id(job_id))
    transcript = None
    if view.state == JobState.SUCCEEDED:
        transcript = get_transcript(resources.engine, tenant, view.id)
    return Job(**dict(JobSummary.of(view)), transcript=transcript)


@router.post(
    "/jobs/{job_id}/cancel",
    responses=problems(
        {404: "No such job", 409: "The job has succeeded or failed already", 503: _UNAVAILABLE}
    ),
)
def cancel(job_id: str, resources: Provided, tenant: Tenant) -> JobSummary:
    """Stop a job: at once if it is queued, within a chunk if it is running."""
    found_id = _existing_id(job_id)
    cancel_job(resources.engine, tenant, found_id)
    return JobSummary.of(get_job(resources.engine, tenant, found_id))


@router.get(
    "/jobs/{job_id}/transcript",
    response_class=Response,
    responses=problems(
        {
            404: "No such job",
            409: "The job has not succeeded; the member 'state' tells its state",
            422: "An unknown format",
            503: _UNAVAILABLE,
        }
    )
    | {200: {"description": "The transcript", "content": {"application/json": {}, "text/*": {}}}},
)
def show_transcript(
    job_id: str,
    request: Request,
    resources: Provided,
    tenant: Tenant,
    format: Annotated[  # noqa: A002 - the query parameter's name
        str, Query(description=f"one of {', '.join(FORMATS)}")
    ] = "json",
) -> Response:
    """Return the transcript alone, in the format asked for."""
    if format not in FORMATS:
        raise UnknownFormat(f"no format {format!r}; there are {', '.join(FORMATS)}")
    found_id = _existing_id(job_id)
    try:
        transcript = get_transcript(resources.engine, tenant, found_id)
    except TranscriptNotReady as error:
        state = get_job(resources.engine, tenant, found_id).state
        return error_response(request, error, state=state)
    rendered = render(transcript, format)
    return Response(rendered.body, media_type=rendered.media_type)


def _commit(resources: Resources, job: NewJob) -> JobView:
    """Commit the job, ring for it and read it back; its file goes if it was not committed."""
    engine = resources.engine
    try:
        create_job(engine, job, max_attempts=resources.settings.max_attempts)
    except CommitUncertain as error:
        try:
            get_job(engine, job.tenant, job.id)
        except JobNotFound:
            _remove(resources, job.source_key)
            raise error from None
        # While nobody can tell, the file stays: one too many is better than a job without its own.
    except DatabaseUnavailable:
        _remove(resources, job.source_key)
        raise
    resources.doorbell.ring()
    return get_job(engine, job.tenant, job.id)


def _remove(resources: Resources, key: str) -> None:
    try:
        resources.storage.delete_prefix(key)
    except StorageUnavailable as error:
        log.warning("%s was not removed: %s", key, error)


def _existing_id(text: str) -> UUID:
    """Return the id in ``text``; a text that is none names no job."""
    job_id = _parse_id(text)
    if job_id is None:
        raise JobNotFound(f"there is no job {text}")
    return job_id


def _parse_id(text: str) -> UUID | None:
    """Return the id, if written as we write ids; ``UUID`` alone takes braces and more."""
    try:
        job_id = UUID(text)
    except ValueError:
        return None
    return job_id if str(job_id) == text.lower() else None
