"""What clients and operators see of jobs."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import fetch, read
from shared.infra.errors import JobNotFound, TranscriptNotReady
from shared.models.options import ResolvedOptions
from shared.store.jobs.filters import ALL_JOBS, JobFilter, page_query
from shared.store.states import ACTIVE_JOB_STATES, JobState

_COLUMNS = """
    id, tenant, state, model, options, batch_id, priority, detected_language, cached,
    source_name, source_bytes, sha256, upload_id, audio_url, fetched_bytes, fetch_total_bytes,
    duration_s, chunks_total, chunks_done, plan_complete, audio_planned_s, planned_share,
    percent_done, audio_kept_s,
    audio_done_s, error_code, error_detail, metrics, accuracy, metadata, created_at, started_at,
    finished_at, run, audio_deleted_at, transcript_deleted_at, first_event, last_event,
    extract(epoch FROM clock_timestamp() - transcribing_since)::float8 AS transcribing_s
"""

Stage = Literal[
    "queued", "fetching", "preparing", "transcribing", "finishing", "done", "failed", "canceled"
]
"""How far a job is. A running job is ``fetching``, ``preparing``, ``transcribing`` or
``finishing``."""

_STAGES: Mapping[JobState, Stage] = {
    JobState.QUEUED: "queued",
    JobState.SUCCEEDED: "done",
    JobState.FAILED: "failed",
    JobState.CANCELED: "canceled",
}


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its owner may see it."""

    id: UUID
    tenant: str
    state: JobState
    model: str
    options: ResolvedOptions
    batch_id: UUID | None
    """None: it was submitted alone."""
    priority: int
    detected_language: str | None
    cached: bool
    source_name: str
    source_bytes: int | None
    """None, as the digest, until the file is fetched."""
    sha256: str | None
    upload_id: UUID | None
    """Of the upload that it was made of."""
    audio_url: str | None
    """Where it is fetched from, without what may be a secret."""
    fetched_bytes: int | None
    """Of the file, so far; None: it is not being fetched."""
    fetch_total_bytes: int | None
    """Of the file, as its server says."""
    duration_s: float | None
    chunks_total: int
    chunks_done: int
    plan_complete: bool
    audio_planned_s: float
    """Of all chunks planned so far."""
    planned_share: float
    """That share of the whole audio, in [0, 1]; an estimate until ``plan_complete``."""
    percent_done: float | None
    """The highest percentage so far."""
    audio_kept_s: float
    """Part of ``audio_done_s`` that earlier runs of the job transcribed."""
    audio_done_s: float
    error_code: str | None
    error_detail: str | None
    metrics: Mapping[str, Any]
    accuracy: Mapping[str, Any] | None
    metadata: Mapping[str, Any]
    """The client's own."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    run: int
    """1, and one more for each retry."""
    audio_deleted_at: datetime | None
    transcript_deleted_at: datetime | None
    transcribing_s: float | None
    """Seconds since this run of the job claimed its first chunk, by the database's clock."""
    first_event: int
    """Id of the event of its creation, by which jobs are listed."""
    last_event: int
    """Id of the latest of the job's events."""
    live_text: str | None = None
    """What a live session told of its audio; not in lists."""

    @property
    def ended(self) -> bool:
        """Whether its state is terminal."""
        return self.state not in ACTIVE_JOB_STATES

    @property
    def stage(self) -> Stage:
        """What is being done, or how the job ended."""
        if self.state != JobState.RUNNING:
            return _STAGES[self.state]
        if self.sha256 is None:
            return "fetching"
        if self.plan_complete and self.chunks_done == self.chunks_total:
            return "finishing"
        return "transcribing" if self.chunks_total else "preparing"

    @property
    def percent(self) -> float | None:
        """Share of the audio that is transcribed, in [0, 100]; None before any is planned.

        It never falls. While the file is decoded, the length of the audio is estimated from how
        much of the file was read. Only a job that succeeded has 100.
        """
        if self.state == JobState.SUCCEEDED:
            return 100.0
        if not self.planned_share:
            return None
        # Rounded down to a tenth: what is shown is done.
        return math.floor((self.percent_done or 0.0) * 10) / 10

    @property
    def rtfx(self) -> float | None:
        """Audio seconds per wall second; None before a chunk is done.

        The wall begins with the first claim of a chunk in this run, and includes waits.
        """
        heard_s = self.audio_done_s - self.audio_kept_s
        if self.state != JobState.RUNNING or not self.transcribing_s or heard_s <= 0:
            return None
        return heard_s / self.transcribing_s

    @property
    def eta_s(self) -> float | None:
        """Seconds until all audio is transcribed at this ``rtfx``; None without one.

        The length of the audio is estimated as for ``percent``.
        """
        rtfx = self.rtfx
        if rtfx is None or not self.planned_share:
            return None
        return max(0.0, self.audio_planned_s / self.planned_share - self.audio_done_s) / rtfx


def get_job(engine: Engine, tenant: str, job_id: UUID) -> JobView:
    """Return a job.

    Raises:
        JobNotFound: there is none of that id, or it is another tenant's.
    """
    with read(engine, tenant) as connection:
        return own_job(read_jobs(connection, [job_id]), tenant, job_id)


def read_jobs(connection: Connection, job_ids: Collection[UUID]) -> dict[UUID, JobView]:
    """Return the jobs that exist, by id, of any tenant: see ``own_job``."""
    rows = fetch(connection, _BY_ID, {"ids": list(job_ids)})
    return {row["id"]: _view(row) for row in rows}


def own_job(found: Mapping[UUID, JobView], tenant: str, job_id: UUID) -> JobView:
    """Return one of the jobs found.

    Raises:
        JobNotFound: it is not among them, or is another tenant's.
    """
    view = found.get(job_id)
    if view is None or view.tenant != tenant:
        raise JobNotFound(f"there is no job {job_id}")
    return view


_BY_ID = f"SELECT {_COLUMNS}, live_text FROM jobs WHERE id = ANY (%(ids)s)"  # noqa: S608 - constants


def list_jobs(
    engine: Engine,
    tenant: str,
    *,
    limit: int,
    before: int | None = None,
    chosen: JobFilter = ALL_JOBS,
) -> list[JobView]:
    """Return the newest jobs, newest first; ``before`` continues after a page's last job."""
    query, parameters = page_query(_COLUMNS, chosen)
    with read(engine, tenant) as connection:
        if before is None:
            (settled,) = fetch(connection, _SETTLED, {"tenant": tenant})
            before = (settled["newest"] or 0) + 1
        page = {"tenant": tenant, "before": before, "limit": limit}
        rows = fetch(connection, query, parameters | page)
    return [_view(row) for row in rows]


_SETTLED = """
    WITH none_creating AS MATERIALIZED (
        -- Each creation shares this lock until its commit. Here it is released at once.
        SELECT pg_advisory_xact_lock(hashtextextended(%(tenant)s, 1))
    )
    SELECT pg_sequence_last_value('event_ids') AS newest FROM none_creating
"""
"""An event's id up to which all of the tenant's jobs are committed, and can be read."""


def get_manifest(engine: Engine, tenant: str, job_id: UUID) -> str:
    """Return the ``Manifest`` of a job that succeeded, as JSON. It outlives the transcript.

    Raises:
        JobNotFound: there is no such job for this tenant.
        TranscriptNotReady: the job is in another state, which the message names.
    """
    with read(engine, tenant) as connection:
        row = connection.execute(
            text("""
                SELECT state, CAST(manifest AS text) AS manifest FROM jobs
                WHERE id = :id AND tenant = :tenant
            """),
            {"id": job_id, "tenant": tenant},
        ).one_or_none()
    if row is None:
        raise JobNotFound(f"there is no job {job_id}")
    if row.manifest is None:
        raise TranscriptNotReady(f"the job is {row.state}, so it has no manifest", row.state)
    return str(row.manifest)


def gpu_memory_bytes(engine: Engine, tenant: str, job_id: UUID) -> int | None:
    """Return the most that a model worker held of a GPU's memory while it transcribed the job.

    None if no GPU was used, or its engine does not tell.
    """
    with read(engine, tenant) as connection:
        most: int | None = connection.execute(
            text("""
                SELECT max((timings ->> 'device_memory_bytes')::bigint) FROM steps
                WHERE job_id = :id AND kind = 'transcribe'
                  AND starts_with(output ->> 'device', 'cuda')
            """),
            {"id": job_id},
        ).scalar_one()
    return most


@dataclass(frozen=True, slots=True)
class PageOfJobs:
    """A part of a list of jobs, newest first."""

    views: list[JobView]
    has_older: bool
    has_newer: bool


def find_page(
    engine: Engine,
    tenant: str,
    *,
    limit: int,
    before: UUID | None = None,
    after: UUID | None = None,
    states: Collection[JobState] = tuple(JobState),
    created_on: date | None = None,
) -> PageOfJobs:
    """Return up to ``limit`` jobs, in the order of ``list_jobs``.

    Args:
        engine: to the database.
        tenant: whose jobs.
        limit: the most that are returned.
        before: only older ones than this job, the newest of them.
        after: only newer ones than this job, the oldest of them. A job that was deleted since
            counts by the time in its id.
        states: only jobs in one of them.
        created_on: only those of this day (UTC).
    """
    parameters: dict[str, Any] = {
        "tenant": tenant,
        "states": [str(state) for state in states],
        "begins": created_on and datetime.combine(created_on, time.min, UTC),
        "ends": created_on and datetime.combine(created_on, time.max, UTC),
        "limit": limit + 1,
    }
    with read(engine, tenant) as connection:
        (settled,) = fetch(connection, _SETTLED, {"tenant": tenant})
        newest: int = settled["newest"] or 0
        least, most = -1, newest + 1
        if before is not None:
            (found,) = fetch(connection, _AT, {"tenant": tenant, "id": before})
            if (most := found["at"] if found["at"] is not None else found["above"]) is None:
                most = least
        if after is not None:
            (found,) = fetch(connection, _AT, {"tenant": tenant, "id": after})
            if (least := found["at"] if found["at"] is not None else found["below"]) is None:
                least = newest
        order = "DESC" if after is None else "ASC"
        query = _BETWEEN.format(order=order)
        rows = fetch(connection, query, {**parameters, "least": least, "most": most})
    views = [_view(row) for row in rows]
    has_more, views = len(views) > limit, views[:limit]
    if after is None:
        return PageOfJobs(views, has_older=has_more, has_newer=before is not None)
    return PageOfJobs(views[::-1], has_older=True, has_newer=has_more)


_AT = """
    SELECT (SELECT first_event FROM jobs WHERE id = %(id)s AND tenant = %(tenant)s) AS at,
           (SELECT first_event + 1 FROM jobs WHERE tenant = %(tenant)s AND id < %(id)s
            ORDER BY first_event DESC LIMIT 1) AS above,
           (SELECT first_event - 1 FROM jobs WHERE tenant = %(tenant)s AND id > %(id)s
            ORDER BY first_event LIMIT 1) AS below
"""
"""Where a job is in the list; ``above`` and ``below``: where it was if it is gone."""

_BETWEEN = f"""
    SELECT {_COLUMNS} FROM jobs
    WHERE tenant = %(tenant)s AND first_event > %(least)s AND first_event < %(most)s
      AND state = ANY (%(states)s)
      AND (%(begins)s::timestamptz IS NULL OR created_at BETWEEN %(begins)s AND %(ends)s)
    ORDER BY first_event {{order}} LIMIT %(limit)s
"""  # noqa: S608 - constants


def _view(row: Mapping[str, Any]) -> JobView:
    return JobView(
        **{
            **row,
            "state": JobState(row["state"]),
            "options": ResolvedOptions.model_validate(row["options"]),
        }
    )
