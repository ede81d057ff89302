"""``GET /jobs/{id}/events``: what happens to a job, as Server-Sent Events.

An event with an id is a row of the job's history, and the id is its place there: a client that
comes back with the last one it has seen gets those after it, none twice and none left out.
``progress`` is no history but the present, so it has no id: a stream begins with it.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from api.native.ids import existing_id
from api.native.schemas.jobs import (
    JobError,
    Progress,
    ProgressEvent,
    SegmentsEvent,
    StateEvent,
    WaitingFor,
)
from api.native.summaries import what_it_waits_for
from api.openapi import problems
from api.resources import Provided, Resources, Tenant
from api.watch import Watch
from shared.infra.errors import DatabaseUnavailable, InvalidRequest, JobNotFound
from shared.store.events import ChunkDone, StateChange, read_events

router = APIRouter(tags=["jobs"])

RECONNECT_MS = 2_000
"""How long a client waits before it comes back: a restart of the server takes about that long."""

LOOK_AGAIN_S = 10.0
"""How long a stream goes without news before it looks whether the job waits for a worker: what
becomes of workers is no event of a job."""

_OUTAGE_PAUSE_S = 1.0
"""How long a stream waits before it asks again a database that is away."""


@dataclass(frozen=True, slots=True)
class _News:
    """What a stream has to send, written out: it may wait long for a slow client."""

    events: list[ServerSentEvent]
    progress: ProgressEvent
    complete: bool
    """Whether there were no further events then."""
    ended: bool
    last_event: int
    """Of any kind, those that are not sent included."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a stream's news come from."""

    resources: Resources
    tenant: str
    job_id: UUID
    watch: Watch
    first: _News

    async def read(self, after: int) -> _News:
        """Return the next news; as ``_read``."""
        return await _in_thread(self.resources, self.tenant, self.job_id, after)


async def _open(
    job_id: str,
    resources: Provided,
    tenant: Tenant,
    last_event_id: Annotated[
        str,
        Header(alias="Last-Event-ID", description="of the last event seen: only those after it"),
    ] = "",
) -> AsyncIterator[_Source]:
    """Begin to watch the job; what can be refused is refused here, before the stream begins."""
    found_id = existing_id(job_id)
    with resources.watcher.watch(found_id) as watch:
        first = await _in_thread(resources, tenant, found_id, _parse(last_event_id))
        if first.ended and not first.events:
            # A client of SSE would come back for ever to a stream that ends at once.
            raise HTTPException(204)
        yield _Source(resources, tenant, found_id, watch, first)


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job's events",
    response_class=EventSourceResponse,
    responses=problems(
        {
            404: "No such job",
            422: "A Last-Event-ID that is none of ours",
            503: "Postgres is away, or too many clients are watching; see Retry-After",
        }
    )
    | {
        200: {"description": "The events; see StateEvent, SegmentsEvent and ProgressEvent"},
        204: {"description": "The job has ended and there are no events after Last-Event-ID"},
    },
)
async def stream_events(
    source: Annotated[_Source, Depends(_open)],
) -> AsyncIterator[ServerSentEvent]:
    """Tell what happens to a job, from its beginning or from `Last-Event-ID` on, until it ends.

    Server-Sent Events, each with JSON as its data: `state` whenever the job enters a state,
    `segments` for each chunk that is transcribed, in the order in which they end, and `progress`,
    the present one with what the job waits for, whenever that changes. `progress` has no id, as it
    is not repeated. The stream ends after the last `state`; for a client that has seen it, the
    answer is 204.
    """
    yield ServerSentEvent(retry=RECONNECT_MS)
    news, shown = source.first, None
    while True:
        counts = news.progress.model_copy(update={"rtfx": None, "eta_s": None})
        if counts != shown:
            yield ServerSentEvent(event="progress", data=news.progress)
            shown = counts
        for event in news.events:
            yield event
        if news.complete and (news.ended or not await _goes_on(source, news.last_event)):
            return
        after = news.last_event if news.complete else int(news.events[-1].id or 0)
        try:
            news = await _read_patiently(source, after)
        except JobNotFound:
            return  # it was deleted


async def _goes_on(source: _Source, after: int) -> bool:
    """Wait for news, not for long; return False when the server stops."""
    try:
        return await asyncio.wait_for(source.watch.news(after), LOOK_AGAIN_S)
    except TimeoutError:
        return True


async def _read_patiently(source: _Source, after: int) -> _News:
    """Read what comes after an event, however long Postgres is away."""
    while True:
        try:
            return await source.read(after)
        except DatabaseUnavailable:
            await asyncio.sleep(_OUTAGE_PAUSE_S)


async def _in_thread(resources: Resources, tenant: str, job_id: UUID, after: int) -> _News:
    read = partial(_read, resources, tenant, job_id, after)
    return await to_thread.run_sync(read, limiter=resources.event_threads, abandon_on_cancel=True)


def _read(resources: Resources, tenant: str, job_id: UUID, after: int) -> _News:
    page = read_events(resources.engine, tenant, job_id, after=after)
    return _News(
        events=[_written(event) for event in page.events],
        progress=ProgressEvent(
            **dict(Progress.of(page.job)),
            waiting_for=WaitingFor.of(what_it_waits_for(resources, page.job)),
        ),
        complete=page.complete,
        ended=page.job.ended,
        last_event=page.job.last_event,
    )


def _written(event: StateChange | ChunkDone) -> ServerSentEvent:
    data: StateEvent | SegmentsEvent
    match event:
        case StateChange():
            name = "state"
            error = None
            if event.error_code is not None:
                error = JobError(code=event.error_code, detail=event.error_detail or "")
            data = StateEvent(state=event.state, at=event.at, error=error)
        case ChunkDone():
            name = "segments"
            data = SegmentsEvent(
                chunk=event.chunk,
                channel=event.channel,
                start=event.start,
                end=event.end,
                segments=event.segments,
            )
    return ServerSentEvent(event=name, id=str(event.id), raw_data=data.model_dump_json())


def _parse(last_event_id: str) -> int:
    if not last_event_id:
        return 0
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 19):
        raise InvalidRequest("Last-Event-ID is not the id of one of our events")
    return int(last_event_id)
