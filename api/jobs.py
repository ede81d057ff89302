"""Submitting jobs and asking after them."""

import logging
from collections.abc import Iterator
from itertools import chain
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, BackgroundTasks, Query, Request, Response
from fastapi.responses import StreamingResponse
from uuid_utils.compat import uuid7

from api.ids import existing_id, parse_id
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
from shared.formats import FORMATS, in_blocks, render, write_json
from shared.jobs import JobView, get_job, list_jobs, open_transcript
from shared.options import fingerprint
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
    request: Request,
    response: Response,
    background: BackgroundTasks,
    resources: Provided,
    tenant: Tenant,
) -> JobSummary:
    """Take a file and queue its transcription, unless the same was transcribed before.

    A file of the same bytes with the same options, that was transcribed by the same model before,
    gives a job that has succeeded already: its `cached` is true. The `cache` field turns that off.
    """
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
    model = resources.catalogue.get(received.options.model)
    digest = fingerprint(received.sha256, received.options, model)
    job = NewJob(
        id=job_id,
        tenant=tenant,
        options=received.options,
        fingerprint=digest if received.asked.cache else None,
        reference=received.asked.reference,
        source_key=receiver.key,
        source_name=received.name,
        source_bytes=received.n_bytes,
        sha256=received.sha256,
    )
    view = await to_thread.run_sync(_commit, resources, job)
    if view.cached:
        resources.cached_jobs.inc()
        # Nobody will decode it again: the transcript is another file's, of the same bytes.
        background.add_task(_remove, resources, job.source_key)
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
        before = parse_id(cursor)
        if before is None:
            raise InvalidRequest("the cursor is not one that we gave out")
    found = list_jobs(resources.engine, tenant, limit=limit + 1, before=before)
    page = found[:limit]
    return JobPage(
        jobs=[JobSummary.of(view) for view in page],
        next_cursor=str(page[-1].id) if len(found) > limit else None,
    )


@router.get(
    "/jobs/{job_id}",
    response_model=Job,
    responses=problems({404: "No such job", 503: _UNAVAILABLE}),
)
def show_job(job_id: str, resources: Provided, tenant: Tenant) -> Response:
    """Tell a job's state and progress, and its transcript once it has succeeded."""
    view = get_job(resources.engine, tenant, existing_id(job_id))
    job = Job(**dict(JobSummary.of(view)))
    if view.state != JobState.SUCCEEDED:
        return Response(job.model_dump_json(), media_type="application/json")
    stored = open_transcript(resources.engine, tenant, view.id)
    parts = chain(
        [job.model_dump_json(exclude={"transcript"}).removesuffix("}"), ',"transcript":'],
        write_json(stored.header, stored.segments),
        ["}"],
    )
    return _stream(in_blocks(parts), "application/json")


@router.post(
    "/jobs/{job_id}/cancel",
    responses=problems(
        {404: "No such job", 409: "The job has succeeded or failed already", 503: _UNAVAILABLE}
    ),
)
def cancel(job_id: str, resources: Provided, tenant: Tenant) -> JobSummary:
    """Stop a job: at once if it is queued, within a chunk if it is running."""
    found_id = existing_id(job_id)
    cancel_job(resources.engine, tenant, found_id, max_attempts=resources.settings.max_attempts)
    resources.doorbell.ring()  # an equal job may be transcribed in its place
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
    found_id = existing_id(job_id)
    try:
        stored = open_transcript(resources.engine, tenant, found_id)
    except TranscriptNotReady as error:
        state = get_job(resources.engine, tenant, found_id).state
        return error_response(request, error, state=state)
    rendered = render(stored.header, stored.segments, format)
    return _stream(rendered.blocks, rendered.media_type)


def _stream(blocks: Iterator[str], media_type: str) -> Response:
    """Send the blocks as they are made.

    The first is made here and now: what goes wrong until then is still answered as a problem.
    """
    first = next(blocks, "")
    return StreamingResponse(chain([first], blocks), media_type=media_type)


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
