"""The job store's reading side: what clients and operators see of jobs."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, RowMapping, text

from shared.database import begin
from shared.errors import JobNotFound, TranscriptNotReady
from shared.tables import JobState
from shared.transcript import Transcript

_COLUMNS = """
    id, state, model, language, vad, source_name, source_bytes, sha256, duration_s,
    chunks_total, chunks_done, plan_complete, audio_done_s, error_code, error_detail, metrics,
    created_at, started_at, finished_at
"""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its owner may see it."""

    id: UUID
    state: JobState
    model: str
    language: str | None
    vad: str
    source_name: str
    source_bytes: int
    sha256: str
    duration_s: float | None
    chunks_total: int
    chunks_done: int
    plan_complete: bool
    audio_done_s: float
    error_code: str | None
    error_detail: str | None
    metrics: Mapping[str, Any]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def stage(self) -> str:
        """What is being done: queued, preparing, transcribing, finishing or done."""
        if self.state == JobState.QUEUED:
            return "queued"
        if self.state != JobState.RUNNING:
            return "done"
        if self.plan_complete and self.chunks_done == self.chunks_total:
            return "finishing"
        return "transcribing" if self.chunks_total else "preparing"


@dataclass(frozen=True, slots=True)
class QueueCount:
    """How many steps of a queue are in a state."""

    queue: str
    state: str
    steps: int


@dataclass(frozen=True, slots=True)
class ChunkOutput:
    """A finished ``transcribe`` step: its chunk, and what the model made of it."""

    idx: int
    input: Mapping[str, int]
    output: Mapping[str, Any]
    timings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FinishedChunks:
    """What ``finish`` works on."""

    duration_s: float
    chunks: list[ChunkOutput]


def get_job(engine: Engine, tenant: str, job_id: UUID) -> JobView:
    """Return a job.

    Raises:
        JobNotFound: there is none of that id, or it is another tenant's.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        row = (
            connection.execute(
                text(f"SELECT {_COLUMNS} FROM jobs WHERE id = :id AND tenant = :tenant"),  # noqa: S608
                {"id": job_id, "tenant": tenant},
            )
            .mappings()
            .one_or_none()
        )
    if row is None:
        raise JobNotFound(f"there is no job {job_id}")
    return _view(row)


def list_jobs(
    engine: Engine, tenant: str, *, limit: int, before: UUID | None = None
) -> list[JobView]:
    """Return the newest jobs, newest first; ``before`` continues after a page's last job.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        rows = connection.execute(
            text(f"""
                SELECT {_COLUMNS} FROM jobs
                WHERE tenant = :tenant AND (CAST(:before AS uuid) IS NULL OR id < :before)
                ORDER BY id DESC LIMIT :limit
            """),  # noqa: S608 - the columns are a constant
            {"tenant": tenant, "before": before, "limit": limit},
        ).mappings()
        return [_view(row) for row in rows]


def get_transcript(engine: Engine, tenant: str, job_id: UUID) -> Transcript:
    """Return the transcript of a job that succeeded.

    Raises:
        JobNotFound: there is no such job for this tenant.
        TranscriptNotReady: the job is in another state, which the message names.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        row = connection.execute(
            text("""
                SELECT jobs.state, transcripts.document
                FROM jobs LEFT JOIN transcripts ON transcripts.job_id = jobs.id
                WHERE jobs.id = :id AND tenant = :tenant
            """),
            {"id": job_id, "tenant": tenant},
        ).one_or_none()
    if row is None:
        raise JobNotFound(f"there is no job {job_id}")
    if row.document is None:
        raise TranscriptNotReady(f"the job is {row.state}, so it has no transcript")
    return Transcript.model_validate(row.document)


def finished_chunks(engine: Engine, job_id: UUID) -> FinishedChunks:
    """Return a prepared job's length and its finished chunks in order.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        duration_s = connection.execute(
            text("SELECT duration_s FROM jobs WHERE id = :id"), {"id": job_id}
        ).scalar_one()
        rows = connection.execute(
            text("""
                SELECT idx, input, output, timings FROM steps
                WHERE job_id = :id AND kind = 'transcribe' AND state = 'done' ORDER BY idx
            """),
            {"id": job_id},
        ).mappings()
        return FinishedChunks(duration_s, [ChunkOutput(**row) for row in rows])


def count_jobs(engine: Engine) -> dict[str, int]:
    """Return the number of jobs by state, over all tenants."""
    with begin(engine) as connection:
        counts = connection.execute(text("SELECT state, count(*) AS jobs FROM jobs GROUP BY state"))
        return {state.value: 0 for state in JobState} | {row.state: row.jobs for row in counts}


def count_steps(engine: Engine) -> list[QueueCount]:
    """Return the number of waiting and running steps of active jobs by queue."""
    with begin(engine) as connection:
        counts = connection.execute(
            text("""
                SELECT queue, steps.state, count(*)
                FROM steps JOIN jobs ON jobs.id = steps.job_id
                WHERE steps.state IN ('queued', 'running') AND jobs.state IN ('queued', 'running')
                GROUP BY queue, steps.state ORDER BY queue, steps.state
            """)
        )
        return [QueueCount(queue, state, n) for queue, state, n in counts]


def _view(row: RowMapping) -> JobView:
    return JobView(**{**row, "state": JobState(row["state"])})
