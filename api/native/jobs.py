"""Reading jobs: the list, one with its progress, its manifest."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from api.access.routes import needs
from api.native import snapshots
from api.native.answers import answer_with_snapshot, summarize_jobs
from api.native.filters import Chosen
from api.native.ids import JobCursor, JobId, job_cursor
from api.native.schemas.jobs import Job, JobPage
from api.native.waits import at_its_end
from api.openapi import problems
from api.resources import Provided, Tenant
from shared.infra.errors import (
    ConflictingOptions,
    JobNotFound,
    TooManyAtOnce,
    TooManyStreams,
    TranscriptNotReady,
    UnsupportedLanguage,
)
from shared.speech.transcript.manifest import Manifest
from shared.store.accounts.scopes import Scope
from shared.store.jobs.read import get_manifest, list_jobs

router = APIRouter(tags=["jobs"])

MAX_WAIT_S = 60
"""Proxies usually wait as long for an answer."""


@needs(Scope.JOBS_READ)
@router.get(
    "/jobs",
    summary="List jobs",
    responses=problems(ConflictingOptions, UnsupportedLanguage),
)
def show_jobs(
    resources: Provided,
    tenant: Tenant,
    chosen: Chosen,
    cursor: JobCursor,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> JobPage:
    """List jobs, newest first: in the order in which they were taken, which is when uploads end.

    A job that was not yet taken when an answer was made comes above all jobs of that answer. So
    whoever reads from the top down to a known job has seen all new ones.

    Filters are repeated with each page's cursor. Jobs are found by the first 64 members of their
    metadata that are strings, numbers or booleans, of up to 256 characters.
    """
    found = list_jobs(resources.engine, tenant, limit=limit + 1, before=cursor, chosen=chosen)
    page = found[:limit]
    return JobPage(
        jobs=summarize_jobs(resources, page),
        next_cursor=job_cursor(page[-1].first_event) if len(found) > limit else None,
    )


@needs(Scope.JOBS_READ)
@router.get(
    "/jobs/{job_id}",
    summary="Get a job, or wait for its end",
    response_model=Job,
    responses=problems(JobNotFound, ConflictingOptions, TooManyStreams, TooManyAtOnce),
)
async def show_job(
    job_id: JobId,
    request: Request,
    resources: Provided,
    loader: snapshots.Provided,
    tenant: Tenant,
    wait: Annotated[
        float, Query(ge=0, le=MAX_WAIT_S, description="seconds to wait for the job's end, at most")
    ] = 0,
    include: Annotated[
        list[Literal["words"]],
        Query(description="words: the transcript whole, with its paragraphs, segments and words"),
    ] = [],  # noqa: B006 - FastAPI hands out copies
    text: Annotated[
        bool,
        Query(
            description="false: leave out the transcript's text, which /jobs/{job_id}/transcript "
            "has in every format"
        ),
    ] = True,
) -> Response:
    """Return a job's state and progress, and its transcript once it has succeeded.

    The transcript has its text, language, durations and warnings; with `include=words` also its
    paragraphs, segments and words, with `text=false` no text. With `wait`, the answer comes as soon
    as the job has ended, or else after that time.
    """
    if "words" in include and not text:
        raise ConflictingOptions("include=words asks for the text that text=false leaves out")
    key = snapshots.JobKey(tenant, job_id)
    if wait:
        snapshot = await at_its_end(request, resources.watcher, loader, key, wait)
    else:
        snapshot = await loader.get(key)
    return await answer_with_snapshot(resources, snapshot, text=text, words="words" in include)


@needs(Scope.JOBS_READ)
@router.get(
    "/jobs/{job_id}/manifest",
    summary="See how a transcript was made",
    response_model=Manifest,
    responses=problems(JobNotFound, TranscriptNotReady),
)
def show_manifest(job_id: JobId, resources: Provided, tenant: Tenant) -> Response:
    """Return how the transcript was made: model, weights, devices, options, and every chunk."""
    manifest = get_manifest(resources.engine, tenant, job_id)
    return Response(manifest, media_type="application/json")
