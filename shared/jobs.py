"""The job store's reading side: what clients and operators see of jobs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, RowMapping, text

from shared.database import begin
from shared.errors import JobNotFound, TranscriptNotReady
from shared.options import ResolvedOptions
from shared.tables import JobState
from shared.transcript import Segment, Transcript, TranscriptHeader, join_segments

_COLUMNS = """
    id, state, model, options, detected_language, cached, source_name, source_bytes, sha256,
    duration_s, chunks_total, chunks_done, plan_complete, audio_done_s, error_code, error_detail,
    metrics, accuracy, created_at, started_at, finished_at
"""

_SEGMENTS_PER_PAGE = 100
_CHUNKS_PER_PAGE = 50
"""Rows read at once: some hundred kilobytes of words."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its owner may see it."""

    id: UUID
    state: JobState
    model: str
    options: ResolvedOptions
    detected_language: str | None
    cached: bool
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
    accuracy: Mapping[str, Any] | None
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
class Preparation:
    """What ``prepare`` and ``detect`` found out about a job."""

    duration_s: float
    detected_probability: float | None
    metrics: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChunkOutput:
    """A finished ``transcribe`` step: its chunk, and what the model made of it."""

    idx: int
    input: Mapping[str, Any]
    output: Mapping[str, Any]
    timings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredTranscript:
    """A transcript whose segments are read as they are asked for, anew in each iteration."""

    header: TranscriptHeader
    segments: Iterable[Segment]


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
    """Return the whole transcript of a job that succeeded; as ``open_transcript``."""
    stored = open_transcript(engine, tenant, job_id)
    segments = list(stored.segments)
    running_text = "".join(join_segments(segments, stored.header.language))
    return Transcript(**dict(stored.header), text=running_text, segments=segments)


def open_transcript(engine: Engine, tenant: str, job_id: UUID) -> StoredTranscript:
    """Return the transcript of a job that succeeded, for reading bit by bit.

    Raises:
        JobNotFound: there is no such job for this tenant.
        TranscriptNotReady: the job is in another state, which the message names.
        DatabaseUnavailable: Postgres cannot be reached; also while segments are read.
    """
    with begin(engine) as connection:
        row = connection.execute(
            text("""
                SELECT jobs.state, jobs.transcript_id, transcripts.header
                FROM jobs LEFT JOIN transcripts ON transcripts.id = jobs.transcript_id
                WHERE jobs.id = :id AND tenant = :tenant
            """),
            {"id": job_id, "tenant": tenant},
        ).one_or_none()
    if row is None:
        raise JobNotFound(f"there is no job {job_id}")
    if row.header is None:
        raise TranscriptNotReady(f"the job is {row.state}, so it has no transcript")
    return StoredTranscript(
        TranscriptHeader.model_validate(row.header), _StoredSegments(engine, row.transcript_id)
    )


@dataclass(frozen=True, slots=True)
class _StoredSegments:
    """The segments of a transcript, page by page.

    No transaction stays open between pages: a slow reader keeps nothing in the database.
    """

    engine: Engine
    transcript_id: UUID

    def __iter__(self) -> Iterator[Segment]:
        after = -1
        while True:
            with begin(self.engine) as connection:
                page = connection.execute(
                    text("""
                        SELECT idx, document FROM transcript_segments
                        WHERE transcript_id = :id AND idx > :after ORDER BY idx LIMIT :limit
                    """),
                    {"id": self.transcript_id, "after": after, "limit": _SEGMENTS_PER_PAGE},
                ).all()
            for row in page:
                yield Segment.model_validate(row.document)
            if len(page) < _SEGMENTS_PER_PAGE:
                return
            after = page[-1].idx


def get_preparation(engine: Engine, job_id: UUID) -> Preparation:
    """Return what is known of a prepared job.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        row = connection.execute(
            text("SELECT duration_s, detected_probability, metrics FROM jobs WHERE id = :id"),
            {"id": job_id},
        ).mappings()
        return Preparation(**row.one())


def finished_chunks(
    engine: Engine, job_id: UUID, *, channel: int | None = None
) -> Iterator[ChunkOutput]:
    """Yield the finished chunks of one channel in order, read page by page.

    ``channel`` is None for those of all channels mixed down.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    return _read_chunks(
        engine,
        """
        SELECT idx, input, output, timings FROM steps
        WHERE job_id = :id AND kind = 'transcribe' AND state = 'done' AND idx > :after
          AND (input ->> 'channel')::int IS NOT DISTINCT FROM CAST(:channel AS int)
        ORDER BY idx LIMIT :limit
        """,
        {"id": job_id, "channel": channel},
    )


def finished_chunks_without_words(engine: Engine, job_id: UUID) -> Iterator[ChunkOutput]:
    """Yield what there is to know of a job's finished chunks but their words, in order of idx.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    return _read_chunks(
        engine,
        """
        SELECT idx, input, output - 'words' AS output, timings FROM steps
        WHERE job_id = :id AND kind = 'transcribe' AND state = 'done' AND idx > :after
        ORDER BY idx LIMIT :limit
        """,
        {"id": job_id},
    )


def _read_chunks(
    engine: Engine, query: str, parameters: Mapping[str, Any]
) -> Iterator[ChunkOutput]:
    after = -1
    while True:
        with begin(engine) as connection:
            rows = connection.execute(
                text(query), {**parameters, "after": after, "limit": _CHUNKS_PER_PAGE}
            ).mappings()
            page = [ChunkOutput(**row) for row in rows]
        yield from page
        if len(page) < _CHUNKS_PER_PAGE:
            return
        after = page[-1].idx


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
    return JobView(
        **{
            **row,
            "state": JobState(row["state"]),
            "options": ResolvedOptions.model_validate(row["options"]),
        }
    )
