"""``GET /events``: the jobs that are under way, as Server-Sent Events.

A list of jobs follows it, where a stream for each job would take all connections that a browser
makes to one host. It tells the present and no history: a client that comes back is told anew what
is under way, and reads the list again for what has ended meanwhile.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Annotated, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

from api.access.routes import needs
from api.loader import Loader
from api.native.answers import summarize_jobs
from api.native.events import RECONNECT_MS
from api.native.schemas.jobs import JobSummary
from api.openapi import problems
from api.resources import Provided, Resources, Tenant, from_state
from shared.infra.database import read
from shared.infra.errors import DatabaseUnavailable, TooManyAtOnce, TooManyStreams
from shared.store.accounts.scopes import Scope
from shared.store.jobs.filters import JobFilter
from shared.store.jobs.read import list_jobs, read_jobs
from shared.store.states import ACTIVE_JOB_STATES

router = APIRouter(tags=["jobs"])

MOST_JOBS = 100
"""Jobs under way that a stream follows, the newest."""
PAUSE_S = 1.0
"""Between two looks: progress is news many times a second."""
LOOK_AGAIN_S = 5.0
"""News of jobs may be lost."""
MOST_S = 86_400.0
"""Streams end after a day; clients come back."""
_AT_ONCE = 10


class Deleted(BaseModel):
    """An event `deleted`: a job is gone."""

    id: UUID


class _Asked(NamedTuple):
    tenant: str
    followed: frozenset[UUID]
    """Jobs that were under way before."""


_Jobs = dict[UUID, JobSummary | None]
"""None: it is deleted."""
FeedLoader = Loader[_Asked, _Jobs]


def make_loader(resources: Resources) -> FeedLoader:
    """Return the reader of jobs under way; streams of the same jobs share a read."""
    return Loader("feed", partial(_load, resources), threads=1, at_once=_AT_ONCE)


async def _open(
    resources: Provided, loader: Annotated[FeedLoader, from_state("feed")], tenant: Tenant
) -> AsyncIterator[_Jobs]:
    """Look at the jobs under way; requests are refused here, before the stream begins."""
    with resources.watcher.place(tenant):
        yield await loader.get(_Asked(tenant, frozenset()))


@needs(Scope.JOBS_READ)
@router.get(
    "/events",
    summary="Follow all jobs under way",
    response_class=EventSourceResponse,
    responses=problems(TooManyStreams, TooManyAtOnce)
    | {200: {"description": "The events; see JobSummary"}},
)
async def stream_jobs(
    resources: Provided,
    loader: Annotated[FeedLoader, from_state("feed")],
    tenant: Tenant,
    found: Annotated[_Jobs, Depends(_open)],
    for_s: Annotated[
        float,
        Query(
            ge=0,
            le=MOST_S,
            description="seconds until the stream ends; 0: what is under way now",
            openapi_examples={"now": {"value": 0}},
        ),
    ] = MOST_S,
) -> AsyncIterator[ServerSentEvent]:
    """Send jobs, as in the list of jobs, whenever they or their progress change.

    An event `job` has a job under way, and once more when it has ended. An event `deleted` has the
    `id` of one that is gone. The newest 100 jobs under way are followed.
    """
    yield ServerSentEvent(retry=RECONNECT_MS)
    ends_at = time.monotonic() + for_s
    told: dict[UUID, str] = {}
    n_told, looked_at = -1, time.monotonic()  # news may have come since the first look
    while True:
        for job_id, job in found.items():
            if job is None:
                del told[job_id]
                yield ServerSentEvent(event="deleted", data=Deleted(id=job_id))
                continue
            if (data := job.model_dump_json()) != told.get(job_id):
                told[job_id] = data
                yield ServerSentEvent(event="job", raw_data=data)
            if job.state not in ACTIVE_JOB_STATES:
                del told[job_id]
        left_s = ends_at - time.monotonic()
        wait_s = min(LOOK_AGAIN_S, left_s)
        if left_s <= 0 or not await resources.watcher.any_news(n_told, wait_s):
            return
        await asyncio.sleep(max(0.0, looked_at + PAUSE_S - time.monotonic()))
        n_told, looked_at = resources.watcher.n_told, time.monotonic()
        try:
            found = await loader.get(_Asked(tenant, frozenset(told)))
        except DatabaseUnavailable:
            found = {}


def _load(resources: Resources, asked: Sequence[_Asked]) -> Mapping[_Asked, _Jobs]:
    return {each: _load_one(resources, each) for each in asked}


def _load_one(resources: Resources, asked: _Asked) -> _Jobs:
    chosen = JobFilter(states=frozenset(ACTIVE_JOB_STATES))
    views = list_jobs(resources.engine, asked.tenant, limit=MOST_JOBS, chosen=chosen)
    if ended := asked.followed - {view.id for view in views}:
        with read(resources.engine, asked.tenant) as connection:
            views += read_jobs(connection, ended).values()
    gone: _Jobs = dict.fromkeys(asked.followed)
    return gone | {job.id: job for job in summarize_jobs(resources, views)}
