"""Asking after jobs: all of them, one with its progress, its transcript and manifest."""

import asyncio
from functools import partial
from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from api.native import snapshots
from api.native.answers import answer_at_once, answer_with_job, stream
from api.native.disconnection import disconnection
from api.native.ids import existing_id, parse_id
from api.native.schemas.jobs import Job, JobPage
from api.native.summaries import summarize_jobs
from api.openapi import problems, transcript_answer
from api.problems import error_response
from api.resources import Provided, Resources, Tenant
from shared.infra.errors import InvalidRequest, TranscriptNotReady, UnknownFormat
from shared.speech.cues import CUE_LINES, LINE_CHARS, MAX_CUE_LINES, MAX_LINE_CHARS, MIN_LINE_CHARS
from shared.speech.formats import render
from shared.speech.manifest import Manifest
from shared.speech.names import FORMATS, SUBTITLES
from shared.store.jobs.read import get_job, get_manifest, list_jobs
from shared.store.transcripts import (
    PartialView,
    StoredTranscript,
    open_partial_transcript,
    open_transcript,
)

router = APIRouter(tags=["jobs"])

MAX_WAIT_S = 60
"""Proxies usually give up on an answer after as long."""

_UNAVAILABLE = "Postgres is away; see Retry-After"


@router.get(
    "/jobs",
    summary="List jobs",
    responses=problems({422: "A bad limit or cursor", 503: _UNAVAILABLE}),
)
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
        jobs=summarize_jobs(resources, page),
        next_cursor=str(page[-1].id) if len(found) > limit else None,
    )


@router.get(
    "/jobs/{job_id}",
    summary="Get a job, or wait for its end",
    response_model=Job,
    responses=problems(
        {
            404: "No such job",
            422: "A bad wait, or an unknown thing to include",
            503: f"{_UNAVAILABLE}; or too many clients are waiting",
        }
    ),
)
async def show_job(
    job_id: str,
    request: Request,
    resources: Provided,
    loader: snapshots.Provided,
    tenant: Tenant,
    wait: Annotated[
        float,
        Query(ge=0, le=MAX_WAIT_S, description="seconds to wait for the job's end, at most"),
    ] = 0,
    include: Annotated[
        list[Literal["words"]],
        Query(description="words: the transcript whole, with its segments and their words"),
    ] = [],  # noqa: B006 - FastAPI hands out copies
    text: Annotated[
        bool,
        Query(
            description="false: leave out the transcript's text, which /jobs/{job_id}/transcript "
            "has in every format"
        ),
    ] = True,
) -> Response:
    """Tell a job's state and progress, and its transcript once it has succeeded.

    Of the transcript it is the text, and what is to say of it as a whole; with `include=words`
    everything, with `text=false` the latter alone. With `wait`, the answer comes as soon as the job
    has ended, or else after that time.
    """
    if "words" in include and not text:
        raise InvalidRequest("include=words asks for the text that text=false leaves out")
    key = snapshots.JobKey(tenant, existing_id(job_id))
    snapshot = await loader.get(key)
    if wait and not snapshot.view.ended:
        await _wait_for_end(request, resources, loader, key, wait)
        snapshot = await loader.get(key)
    answer = answer_at_once(snapshot) if text and not include else None
    if answer is None:
        show = partial(
            answer_with_job, resources, tenant, snapshot.view, text=text, words="words" in include
        )
        answer = await to_thread.run_sync(show)
    return answer


async def _wait_for_end(
    request: Request,
    resources: Resources,
    loader: snapshots.Snapshots,
    key: snapshots.JobKey,
    wait_s: float,
) -> None:
    """Return when the job has ended, ``wait_s`` are over, or nobody waits for the answer any more.

    Raises:
        TooManyStreams: as many clients as may are watching jobs.
    """
    with resources.watcher.watch(key.job_id) as watch:
        # Read once it is watched: an end before that would be no news.
        view = (await loader.get(key)).view
        if view.ended:
            return
        waits = (watch.news(view.last_event, ended=True), disconnection(request))
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.wait(tasks, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()


@router.get(
    "/jobs/{job_id}/transcript",
    summary="Get a transcript",
    response_class=Response,
    responses=problems(
        {
            404: "No such job",
            409: "The job has not succeeded, and `partial` is not true; the member 'state' tells "
            "its state",
            410: "The transcript was removed: its time was up",
            422: "An unknown format, or a bad size of subtitles",
            503: _UNAVAILABLE,
        }
    )
    | transcript_answer(),
)
def show_transcript(
    job_id: str,
    request: Request,
    resources: Provided,
    tenant: Tenant,
    format: Annotated[  # noqa: A002 - the query parameter's name
        str, Query(description="of the answer", json_schema_extra={"enum": list(FORMATS)})
    ] = "json",
    so_far: Annotated[
        bool,
        Query(
            alias="partial",
            description="true: of a job in any other state, what is transcribed so far",
        ),
    ] = False,
    max_line_width: Annotated[
        int | None,
        Query(
            ge=MIN_LINE_CHARS,
            le=MAX_LINE_CHARS,
            description=f"characters of a subtitle's line; omitted: {LINE_CHARS}",
        ),
    ] = None,
    max_line_count: Annotated[
        int | None,
        Query(ge=1, le=MAX_CUE_LINES, description=f"lines of a subtitle; omitted: {CUE_LINES}"),
    ] = None,
) -> Response:
    """Return the transcript alone, in the format asked for.

    With `partial=true`, while the job runs or after it has failed, what its finished chunks say, in
    time order; as JSON it says `"partial": true` and what is missing.
    """
    if format not in FORMATS:
        raise UnknownFormat(f"no format {format!r}; there are {', '.join(FORMATS)}")
    if format not in SUBTITLES and (max_line_width or max_line_count):
        raise InvalidRequest(
            f"max_line_width and max_line_count are for subtitles: {', '.join(SUBTITLES)}"
        )
    found_id = existing_id(job_id)
    found: StoredTranscript | PartialView
    try:
        found = open_transcript(resources.engine, tenant, found_id)
    except TranscriptNotReady as error:
        if not so_far:
            state = get_job(resources.engine, tenant, found_id).state
            return error_response(request, error, state=state)
        found = open_partial_transcript(resources.engine, tenant, found_id)
    rendered = render(
        found.header,
        found.segments,
        format,
        line_chars=max_line_width or LINE_CHARS,
        max_lines=max_line_count or CUE_LINES,
    )
    return stream(rendered.blocks, rendered.media_type)


@router.get(
    "/jobs/{job_id}/manifest",
    summary="See how a transcript was made",
    response_model=Manifest,
    responses=problems(
        {
            404: "No such job",
            409: "The job has not succeeded; the member 'state' tells its state",
            503: _UNAVAILABLE,
        }
    ),
)
def show_manifest(job_id: str, request: Request, resources: Provided, tenant: Tenant) -> Response:
    """Tell how the transcript was made: model, weights, devices, options, and every chunk."""
    found_id = existing_id(job_id)
    try:
        manifest = get_manifest(resources.engine, tenant, found_id)
    except TranscriptNotReady as error:
        state = get_job(resources.engine, tenant, found_id).state
        return error_response(request, error, state=state)
    return Response(manifest, media_type="application/json")
