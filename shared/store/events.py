"""Events of jobs: the audit trail, and what those who watch a job see.

``job_events`` has a row for every change of a job's state and every failed attempt at a step. The
event that a chunk is done is its step itself (``steps.event_id``).

The ids of a job's events grow in the order in which they become visible: each is drawn under the
lock on the job's row, which is held until the commit. A reader that has seen event N and reads on
from N misses none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin, fetch
from shared.infra.errors import JobNotFound
from shared.speech.chunks.chunk import chunk_from_json
from shared.speech.chunks.hypothesis import hypothesis_from_json
from shared.speech.transcript.stitching import Stitcher, to_seconds
from shared.speech.transcript.transcript import Segment
from shared.store.jobs.read import JobView, own_job, read_jobs
from shared.store.news import announce
from shared.store.states import JobState

_PAGE = 10
"""Events per read: a chunk's words are some kilobytes, and there may be many readers."""

_STATES = {
    "job.queued": JobState.QUEUED,
    "job.retried": JobState.QUEUED,
    "job.running": JobState.RUNNING,
    "job.succeeded": JobState.SUCCEEDED,
    "job.failed": JobState.FAILED,
    "job.canceled": JobState.CANCELED,
}


@dataclass(frozen=True, slots=True)
class StateChange:
    """The job entered a state."""

    id: int
    at: datetime
    state: JobState
    error_code: str | None
    """Of a job that failed."""
    error_detail: str | None


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """A chunk was transcribed; chunks end in any order."""

    id: int
    at: datetime
    chunk: int
    channel: int | None
    start: float
    """Of the chunk's core, in seconds into the original file."""
    end: float
    segments: list[Segment]
    """Numbered from 0 in each chunk; times in seconds into the original file."""


@dataclass(frozen=True, slots=True)
class Page:
    """A job and some of its events, read from one snapshot."""

    job: JobView
    events: list[StateChange | ChunkDone]
    complete: bool
    """Whether these are the last ones."""


def record(connection: Connection, job_id: UUID, event: str) -> None:
    """Write a change of a job, whose row the caller has locked."""
    connection.execute(
        text("""
            WITH noted AS (
                INSERT INTO job_events (job_id, event) VALUES (:job_id, :event)
                RETURNING id, job_id
            )
            UPDATE jobs SET last_event = noted.id FROM noted WHERE jobs.id = noted.job_id
        """),
        {"job_id": job_id, "event": event},
    )
    announce(connection, job_id)


class Place(NamedTuple):
    """A place in a job's history: after one of its events, or before the first (0)."""

    tenant: str
    job_id: UUID
    after: int


def read_pages(engine: Engine, places: Sequence[Place]) -> dict[Place, Page | JobNotFound]:
    """Return the job and its next few events for each place, or the error to raise for it.

    A job that does not exist and another tenant's have the same error.
    """
    pages: dict[Place, Page | JobNotFound] = {}
    for tenant in {place.tenant for place in places}:
        own = [place for place in places if place.tenant == tenant]
        pages |= _read_pages(engine, tenant, own)
    return pages


def _read_pages(
    engine: Engine, tenant: str, places: Sequence[Place]
) -> dict[Place, Page | JobNotFound]:
    # One snapshot for the job and its events: an ended job has no further ones.
    repeatable = engine.execution_options(isolation_level="REPEATABLE READ")
    with begin(repeatable, tenant) as connection:
        jobs = read_jobs(connection, {place.job_id for place in places})
        rows = fetch(
            connection,
            _EVENTS,
            {
                "ids": [place.job_id for place in places],
                "afters": [place.after for place in places],
                "states": list(_STATES),
                "limit": _PAGE,
            },
        )
        found: dict[int, list[Mapping[str, Any]]] = {}
        for row in rows:
            found.setdefault(row["place"], []).append(row)
    pages: dict[Place, Page | JobNotFound] = {}
    for number, place in enumerate(places, start=1):
        try:
            job = own_job(jobs, place.tenant, place.job_id)
        except JobNotFound as error:
            pages[place] = error
            continue
        events = [_event(row, job) for row in found.get(number, ())]
        pages[place] = Page(job, events, complete=len(events) < _PAGE)
    return pages


_EVENTS = """
    SELECT place, page.*
    FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(afters)s AS bigint[]))
         WITH ORDINALITY AS wanted (job_id, after, place)
    CROSS JOIN LATERAL (
        (
            SELECT id, at, event, detail, NULL AS idx, NULL AS input, NULL AS output
            FROM job_events
            WHERE job_id = wanted.job_id AND id > wanted.after AND event = ANY (%(states)s)
            ORDER BY id LIMIT %(limit)s
        ) UNION ALL (
            SELECT event_id, finished_at, NULL, NULL, idx, input, output
            FROM steps
            WHERE job_id = wanted.job_id AND event_id > wanted.after AND output IS NOT NULL
            ORDER BY event_id LIMIT %(limit)s
        )
        ORDER BY id LIMIT %(limit)s
    ) AS page
    ORDER BY place, page.id
"""


def _event(row: Mapping[str, Any], job: JobView) -> StateChange | ChunkDone:
    state = _STATES.get(row["event"])
    if state is not None:
        code = detail = None
        if state == JobState.FAILED:
            code, _, detail = row["detail"].partition(": ")  # see fail_job
        return StateChange(row["id"], row["at"], state, code, detail)
    chunk = chunk_from_json(row["idx"], row["input"])
    hypothesis = hypothesis_from_json(row["output"])
    spoken = job.options.language or job.detected_language
    stitcher = Stitcher(chunk.end, language=job.options.text_language(spoken))
    return ChunkDone(
        row["id"],
        row["at"],
        chunk=chunk.index,
        channel=chunk.channel,
        start=to_seconds(chunk.core_start),
        end=to_seconds(chunk.core_end),
        segments=list(stitcher.stitch([[(chunk, hypothesis)]])),
    )
