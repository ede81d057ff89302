"""Error rates of jobs that have a reference: measured as the job succeeds, or soon after it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from shared.infra.database import begin
from shared.infra.errors import DatabaseUnavailable, JobNotFound
from shared.speech.accuracy import Accuracy, measure, measure_within
from shared.store.jobs.references import read_text

_AT_ONCE_JOBS = 5
"""Most jobs that are measured inside one transaction. These bounds together make it hold its locks
for less than 20 ms longer."""
_AT_ONCE_CELLS = 1e8
"""Bound of ``measure_within`` for all of them: 3 ms of computing, 10 ms of Chinese. It admits ten
minutes of any speech, and half an hour where one character in ten is wrong."""
_AT_ONCE_CHARS = 80_000
"""Most text of all of them, references and transcripts: to normalise it takes time as well."""
_AT_ONCE_BYTES = 40_000
"""Longest reference among them: 40 minutes of English."""
_AT_ONCE_AUDIO_S = 1_800
"""Longest audio whose transcript is read."""


def measure_at_once(connection: Connection, job_ids: Iterable[UUID]) -> None:
    """Measure jobs that succeed in this transaction, as far as that takes some milliseconds.

    The caller holds the locks on their rows. The others are left to ``measure_pending``.
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
    """Measure jobs that have succeeded but were not measured yet, the newest first.

    These have long texts, or a worker died before it measured them. Safe to run by several
    processes at once: each job is measured by one of them.

    Args:
        engine: the database.
        limit: the most jobs to measure.

    Returns:
        How many were measured.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
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
    """Give a job that succeeded a reference, in place of any that it had.

    Args:
        engine: the database.
        tenant: whose job it is.
        job_id: the job.
        reference: what was really said.
        accuracy: what was measured against it; None: ``measure_pending`` is to do that.

    Raises:
        JobNotFound: there is no such job for this tenant, or its transcript is gone by now.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
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
    """Return whether the job was measured here: another process may be at it."""
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
        # Outside of any transaction: this can take half a minute.
        accuracy = measure(reference, heard.text, heard.language)
        with begin(engine) as connection:
            _set_accuracy(connection, job_id, reference, accuracy)
        return True


@contextmanager
def _measuring(engine: Engine, job_id: UUID) -> Iterator[bool]:
    """Hold an advisory lock on measuring a job, outside of any transaction.

    Yields False where another session holds it. Postgres frees it when the session ends.
    """
    name = {"name": f"measure:{job_id}"}
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as session:
            lock = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
            is_mine = bool(session.execute(lock, name).scalar_one())
            try:
                yield is_mine
            finally:
                if is_mine:
                    unlock = text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))")
                    session.execute(unlock, name)
    except OperationalError as error:
        raise DatabaseUnavailable("Postgres cannot be reached") from error


def _set_accuracy(connection: Connection, job_id: UUID, reference: str, accuracy: Accuracy) -> None:
    """Store what was measured, unless the job has got another reference since."""
    connection.execute(
        text("UPDATE jobs SET accuracy = :accuracy WHERE id = :id AND reference = :reference"),
        {"id": job_id, "reference": reference, "accuracy": Jsonb(accuracy.model_dump())},
    )
