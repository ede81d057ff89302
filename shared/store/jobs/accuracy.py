"""Error rates of jobs that have a reference: measured as a job succeeds or soon after, and read."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, Row, text

from shared.infra.database import begin, read
from shared.infra.errors import JobNotFound, TranscriptDeleted, TranscriptNotReady
from shared.speech.text.accuracy import Accuracy, measure, measure_within

_AT_ONCE_JOBS = 5
"""Most jobs measured in one transaction. These bounds extend its locks by less than 20 ms."""
_AT_ONCE_CELLS = 1e8
"""Bound of ``measure_within`` for all of them: 3 ms of computing, 10 ms of Chinese. It admits ten
minutes of any speech, and half an hour where one character in ten is wrong."""
_AT_ONCE_CHARS = 80_000
"""Most characters of all references and transcripts, as normalising them takes time too."""
_AT_ONCE_BYTES = 40_000
"""Longest reference among them: 40 minutes of English."""
_AT_ONCE_AUDIO_S = 1_800
"""Longest audio whose transcript is read."""

_POOLED = """
    count(*) AS jobs, sum(duration_s) AS audio_s,
    sum((accuracy ->> 'words')::bigint)::bigint AS words,
    sum((accuracy ->> 'word_errors')::bigint)::bigint AS word_errors,
    sum((accuracy ->> 'characters')::bigint)::bigint AS characters,
    sum((accuracy ->> 'character_errors')::bigint)::bigint AS character_errors
"""


@dataclass(frozen=True, slots=True)
class StoredText:
    """The running text of a stored transcript."""

    text: str
    language: str | None
    """Of the text: ``en`` for a translation."""


@dataclass(frozen=True, slots=True)
class ModelAccuracy:
    """Error rates of all measured jobs of a model, a language and a task."""

    model: str
    language: str | None
    task: str
    jobs: int
    audio_s: float
    accuracy: Accuracy


@dataclass(frozen=True, slots=True)
class DailyAccuracy:
    """Error rates of all measured jobs of a model that ended on one day."""

    day: date
    model: str
    jobs: int
    audio_s: float
    accuracy: Accuracy


@dataclass(frozen=True, slots=True)
class CacheUse:
    """How many jobs were computed, and how many got an equal job's transcript."""

    computed: int
    cached: int
    audio_saved_s: float


def measure_at_once(connection: Connection, job_ids: Iterable[UUID]) -> None:
    """Measure jobs that succeed in this transaction, where that takes only milliseconds.

    The caller holds the locks on their rows. Longer jobs are left to ``measure_pending``.
    """
    candidates = connection.execute(
        text("""
            SELECT id, reference FROM jobs
            WHERE id = ANY(:ids) AND octet_length(reference) <= :bytes AND duration_s <= :audio_s
            ORDER BY id LIMIT :limit
        """),
        {
            "ids": list(job_ids),
            "bytes": _AT_ONCE_BYTES,
            "audio_s": _AT_ONCE_AUDIO_S,
            "limit": _AT_ONCE_JOBS,
        },
    ).all()
    chars_left, cells_left = _AT_ONCE_CHARS, _AT_ONCE_CELLS
    for job in candidates:
        heard = read_text(connection, job.id)
        if heard is None:
            continue
        chars_left -= len(job.reference) + len(heard.text)
        if chars_left < 0:
            break
        accuracy = measure_within(job.reference, heard.text, heard.language, max_cells=cells_left)
        cells_left -= min(cells_left, len(job.reference) * len(heard.text))
        if accuracy is not None:
            _set_accuracy(connection, job.id, job.reference, accuracy)


def measure_pending(engine: Engine, *, limit: int = 20) -> int:
    """Measure up to ``limit`` jobs that ``measure_at_once`` left out, the newest first.

    Several processes may do so at once: one of them measures each job. Returns their number.
    """
    with read(engine) as connection:
        pending = connection.execute(
            text("""
                SELECT id FROM jobs
                WHERE state = 'succeeded' AND reference IS NOT NULL AND accuracy IS NULL
                ORDER BY id DESC LIMIT :limit
            """),
            {"limit": limit},
        ).scalars()
        job_ids = list(pending)
    return sum(_measure_pending_job(engine, job_id) for job_id in job_ids)


def set_reference(
    engine: Engine, tenant: str, job_id: UUID, reference: str, accuracy: Accuracy | None
) -> None:
    """Give a job that succeeded a reference, in place of any earlier one.

    Without its ``accuracy``, ``measure_pending`` measures it.

    Raises:
        JobNotFound: there is no such job for this tenant, or its transcript is gone.
    """
    with begin(engine, tenant) as connection:
        found = connection.execute(
            text("""
                UPDATE jobs SET reference = :reference, accuracy = :accuracy
                WHERE id = :id AND tenant = :tenant AND transcript_id IS NOT NULL RETURNING id
            """),
            {
                "id": job_id,
                "tenant": tenant,
                "reference": reference,
                "accuracy": None if accuracy is None else Jsonb(accuracy.model_dump()),
            },
        ).one_or_none()
    if found is None:
        raise JobNotFound(f"there is no job {job_id}")


def _measure_pending_job(engine: Engine, job_id: UUID) -> bool:
    """Return whether the job was measured here, and not by another process."""
    with _measuring(engine, job_id) as is_mine:
        if not is_mine:
            return False
        with begin(engine) as connection:
            reference = connection.execute(
                text("SELECT reference FROM jobs WHERE id = :id AND accuracy IS NULL"),
                {"id": job_id},
            ).scalar_one_or_none()
            heard = read_text(connection, job_id)
        if reference is None or heard is None:
            return False
        # Not in a transaction: this can take half a minute.
        accuracy = measure(reference, heard.text, heard.language)
        with begin(engine) as connection:
            _set_accuracy(connection, job_id, reference, accuracy)
        return True


@contextmanager
def _measuring(engine: Engine, job_id: UUID) -> Iterator[bool]:
    """Hold an advisory lock on measuring a job, without a transaction.

    Yields False if another session holds it. Postgres frees it when the session ends.
    """
    name = {"name": f"measure:{job_id}"}
    with read(engine) as session:
        lock = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
        is_mine = bool(session.execute(lock, name).scalar_one())
        try:
            yield is_mine
        finally:
            if is_mine:
                unlock = text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))")
                session.execute(unlock, name)


def _set_accuracy(connection: Connection, job_id: UUID, reference: str, accuracy: Accuracy) -> None:
    """Store the accuracy, unless the job has another reference by now."""
    connection.execute(
        text("UPDATE jobs SET accuracy = :accuracy WHERE id = :id AND reference = :reference"),
        {"id": job_id, "reference": reference, "accuracy": Jsonb(accuracy.model_dump())},
    )


def get_text(engine: Engine, tenant: str, job_id: UUID) -> StoredText:
    """Return the text of a job that succeeded.

    Raises:
        JobNotFound: there is no such job for this tenant.
        TranscriptNotReady: the job is in another state, which the message names.
        TranscriptDeleted: its transcript was removed.
    """
    with read(engine, tenant) as connection:
        state = connection.execute(
            text("SELECT state FROM jobs WHERE id = :id AND tenant = :tenant"),
            {"id": job_id, "tenant": tenant},
        ).scalar_one_or_none()
        if state is None:
            raise JobNotFound(f"there is no job {job_id}")
        if state != "succeeded":
            raise TranscriptNotReady(f"the job is {state}, so it has no transcript", state)
        found = read_text(connection, job_id)
    if found is None:
        raise TranscriptDeleted("the transcript was removed: its time was up")
    return found


def accuracy_by_model(engine: Engine, tenant: str) -> list[ModelAccuracy]:
    """Return error rates by model, language of the speech and task: all errors by all words."""
    with read(engine, tenant) as connection:
        rows = connection.execute(
            text(f"""
                SELECT model, coalesce(options ->> 'language', detected_language) AS language,
                       options ->> 'task' AS task,
                       {_POOLED}
                FROM jobs WHERE tenant = :tenant AND accuracy IS NOT NULL
                GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
            """),  # noqa: S608 - a constant
            {"tenant": tenant},
        ).all()
    return [
        ModelAccuracy(*(row.model, row.language, row.task, row.jobs, row.audio_s), _pooled(row))
        for row in rows
    ]


def accuracy_by_day(engine: Engine, tenant: str, *, days: int) -> list[DailyAccuracy]:
    """Return error rates by the day (UTC) on which jobs ended and by model, today's included."""
    with read(engine, tenant) as connection:
        rows = connection.execute(
            text(f"""
                SELECT CAST(finished_at AT TIME ZONE 'UTC' AS date) AS day, model, {_POOLED}
                FROM jobs WHERE tenant = :tenant AND accuracy IS NOT NULL
                  AND finished_at >= (date_trunc('day', now() AT TIME ZONE 'UTC')
                                      - make_interval(days => :days - 1)) AT TIME ZONE 'UTC'
                GROUP BY 1, 2 ORDER BY 1, 2
            """),  # noqa: S608 - a constant
            {"tenant": tenant, "days": days},
        ).all()
    return [DailyAccuracy(row.day, row.model, row.jobs, row.audio_s, _pooled(row)) for row in rows]


def _pooled(row: Row[Any]) -> Accuracy:
    return Accuracy.of_counts(
        words=row.words,
        word_errors=row.word_errors,
        characters=row.characters,
        character_errors=row.character_errors,
    )


def cache_use(engine: Engine, tenant: str) -> CacheUse:
    """Return how a tenant's jobs that succeeded got their transcripts."""
    with read(engine, tenant) as connection:
        row = connection.execute(
            text("""
                SELECT count(*) FILTER (WHERE NOT cached) AS computed,
                       count(*) FILTER (WHERE cached) AS cached,
                       coalesce(sum(duration_s) FILTER (WHERE cached), 0) AS audio_saved_s
                FROM jobs WHERE tenant = :tenant AND state = 'succeeded'
            """),
            {"tenant": tenant},
        ).one()
    return CacheUse(row.computed, row.cached, row.audio_saved_s)


def read_text(connection: Connection, job_id: UUID) -> StoredText | None:
    """Return the text of a job; None if it has no transcript (any more)."""
    row = connection.execute(
        text("""
            SELECT CASE options ->> 'task' WHEN 'translate' THEN 'en'
                   ELSE header ->> 'language' END AS language,
                   (SELECT string_agg(document ->> 'text', ' ' ORDER BY idx)
                    FROM transcript_segments WHERE transcript_id = transcripts.id) AS text
            FROM jobs JOIN transcripts ON transcripts.id = jobs.transcript_id
            WHERE jobs.id = :id
        """),
        {"id": job_id},
    ).one_or_none()
    return None if row is None else StoredText(row.text or "", row.language)
