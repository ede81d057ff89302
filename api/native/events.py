"""``GET /jobs/{id}/events``: what happens to a job, as Server-Sent Events.

An event with an id is a row of the job's history, and the id is its place there. A client that
comes back with the last id it has seen gets all events after it, once. ``progress`` is the present
and not history, so it has no id; a stream begins with it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from api.access.routes import needs
from api.loader import Loader
from api.native.ids import JobId
from api.native.schemas.jobs import JobError, Progress, ProgressEvent, SegmentsEvent, StateEvent
from api.openapi import problems
from api.resources import Provided, Resources, Tenant, from_state
from api.watch import Watch
from shared.infra.errors import (
    DatabaseUnavailable,
    InvalidRequest,
    JobNotFound,
    TooManyAtOnce,
    TooManyStreams,
)
from shared.store.accounts.scopes import Scope
from shared.store.events import ChunkDone, Page, Place, StateChange, read_pages
from shared.store.jobs.waits import Waiting, find_waits

router = APIRouter(tags=["jobs"])

RECONNECT_MS = 2_000
"""How long a client waits before it reconnects: about as long as the server's restart takes."""

LOOK_AGAIN_S = 10.0
"""A stream without news checks this often whether its job waits for a worker, as no event of the
job tells of workers."""

_OUTAGE_PAUSE_S = 1.0
"""How long a stream waits before it asks again a database that is away."""

_THREADS = 2
_AT_ONCE = 25
"""Jobs read at once: the words of their chunks may be some hundred kilobytes each."""


@dataclass(frozen=True, slots=True)
class _News:
    """What streams have to send, serialised, as it may wait long for slow clients."""

    events: list[ServerSentEvent]
    progress: ProgressEvent
    complete: bool
    """Whether these are all events so far."""
    ended: bool
    last_event: int
    """Id of the job's last event, whether it is sent or not."""


NewsLoader = Loader[Place, _News]


def make_loader(resources: Resources) -> NewsLoader:
    """Return the reader of news; streams at the same place share a read."""
    return Loader("news", partial(_load, resources), threads=_THREADS, at_once=_AT_ONCE)


@dataclass(frozen=True, slots=True)
class _Source:
    """The news of a stream's job."""

    loader: NewsLoader
    start: Place
    watch: Watch
    first: _News

    async def read(self, after: int) -> _News:
        """Return the news after an event; waits while Postgres is away.

        Raises:
            JobNotFound: the job was deleted.
        """
        while True:
            try:
                return await self.loader.get(self.start._replace(after=after))
            except DatabaseUnavailable:
                await asyncio.sleep(_OUTAGE_PAUSE_S)


async def _open(
    job_id: JobId,
    resources: Provided,
    loader: Annotated[NewsLoader, from_state("news")],
    tenant: Tenant,
    last_event_id: Annotated[
        str,
        Header(
            alias="Last-Event-ID",
            description="of the last event seen: only those after it",
            json_schema_extra={"pattern": "^[0-9]{0,18}$"},
        ),
    ] = "",
) -> AsyncIterator[_Source]:
    """Begin to watch the job; requests are refused here, before the stream begins."""
    start = Place(tenant, job_id, _parse(last_event_id))
    with resources.watcher.watch(start.job_id, tenant) as watch:
        first = await loader.get(start)
        if first.ended and not first.events:
            # Clients of SSE reconnect after a stream that ends, but not after a 204.
            raise HTTPException(204)
        yield _Source(loader, start, watch, first)


@needs(Scope.JOBS_READ)
@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job's events",
    response_class=EventSourceResponse,
    responses=problems(JobNotFound, TooManyStreams, TooManyAtOnce)
    | {
        200: {"description": "The events; see StateEvent, SegmentsEvent and ProgressEvent"},
        204: {"description": "The job has ended and there are no events after Last-Event-ID"},
    },
)
async def stream_events(
    source: Annotated[_Source, Depends(_open)],
) -> AsyncIterator[ServerSentEvent]:
    """Send what happens to a job, from its beginning or after `Last-Event-ID`, until it ends.

    Each Server-Sent Event has JSON as its data. `state` comes whenever the job enters a state,
    `segments` for each chunk that is transcribed, and `progress` whenever the progress, or what the
    job waits for, changes. `progress` has no id, as it is not repeated. The stream ends after the
    last `state`; a client that has seen that gets 204.
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
            news = await source.read(after)
        except JobNotFound:
            return


async def _goes_on(source: _Source, after: int) -> bool:
    """Wait for news, or ``LOOK_AGAIN_S``; return False when the server stops."""
    try:
        return await asyncio.wait_for(source.watch.news(after), LOOK_AGAIN_S)
    except TimeoutError:
        return True


def _load(resources: Resources, places: Sequence[Place]) -> Mapping[Place, _News | JobNotFound]:
    pages = read_pages(resources.engine, places)
    active = {
        page.job.id
        for page in pages.values()
        if not isinstance(page, JobNotFound) and not page.job.ended
    }
    waits = find_waits(resources.engine, active, live_s=resources.settings.live_s)
    return {
        place: page if isinstance(page, JobNotFound) else _news(page, waits.get(page.job.id))
        for place, page in pages.items()
    }


def _news(page: Page, waiting: Waiting | None) -> _News:
    return _News(
        events=[_written(event) for event in page.events],
        progress=ProgressEvent.model_validate(
            {**dict(Progress.of(page.job)), "waiting_for": waiting}, from_attributes=True
        ),
        complete=page.complete,
        ended=page.job.ended,
        last_event=page.job.last_event,
    )


def _written(event: StateChange | ChunkDone) -> ServerSentEvent:
    data: StateEvent | SegmentsEvent
    if isinstance(event, StateChange):
        error = JobError.of(event.error_code, event.error_detail)
        name, data = "state", StateEvent(state=event.state, at=event.at, error=error)
    else:
        name, data = "segments", SegmentsEvent.model_validate(event, from_attributes=True)
    return ServerSentEvent(event=name, id=str(event.id), raw_data=data.model_dump_json())


def _parse(last_event_id: str) -> int:
    if not last_event_id:
        return 0
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 19):
        raise InvalidRequest("Last-Event-ID is not the id of one of our events")
    return int(last_event_id)
