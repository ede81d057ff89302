"""Objects on their way out: which are to be removed from the object store, and when.

Whatever makes objects superfluous writes a row of ``removals`` in its own transaction. The remover
(``shared.store.objects.remover``) deletes what is due, as often as it takes, and drops the row once
the object store has confirmed. An upload has such a row too, from before its first byte until its
job is committed: what a killed process leaves behind is due some day.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin, single
from shared.store.objects.keys import job_prefix, pcm_prefix

LATE_WRITES_S = 900.0
"""When to look again for what a worker has written since. A worker whose claim has become void
learns of it within a heartbeat (10 s), but the piece it is storing may be accepted after that: a
request is tried three times, 22 s each. The rest is a margin for slow heartbeats and stores. Who is
frozen for longer reports what it wrote when it wakes (``report_late_audio``)."""


@dataclass(frozen=True, slots=True)
class Removal:
    """A prefix that the caller is to remove now."""

    prefix: str
    taken_at: datetime
    """Names this taking, as an epoch does."""


def schedule_removal(connection: Connection, prefix: str, *, late_writes: bool) -> None:
    """All objects under ``prefix`` -> due to go once the transaction is committed.

    With ``late_writes`` they are removed a second time, ``LATE_WRITES_S`` later: a worker may still
    be writing there.
    """
    connection.execute(
        text("""
            INSERT INTO removals (prefix, due_at, again_at)
            VALUES (:prefix, clock_timestamp(),
                    clock_timestamp() + make_interval(secs => CAST(:late_s AS float8)))
            ON CONFLICT (prefix) DO UPDATE
            SET due_at = excluded.due_at, taken_at = NULL,
                again_at = greatest(removals.again_at, excluded.again_at)
        """),
        {"prefix": prefix, "late_s": LATE_WRITES_S if late_writes else None},
    )


def begin_upload(engine: Engine, key: str, *, allowance_s: float) -> None:
    """Nothing -> the object ``key`` due to go after ``allowance_s``, unless it gets a job."""
    with single(engine) as connection:
        connection.execute(
            text("""
                INSERT INTO removals (prefix, due_at)
                VALUES (:key, clock_timestamp() + make_interval(secs => :allowance_s))
            """),
            {"key": key, "allowance_s": allowance_s},
        )


def try_upload(engine: Engine) -> None:
    """See whether an upload could begin: write what ``begin_upload`` does, and roll it back.

    Raises:
        DatabaseUnavailable: it could not.
    """
    with begin(engine) as connection:
        connection.execute(
            text("INSERT INTO removals (prefix, due_at) VALUES (:key, clock_timestamp())"),
            {"key": f"health/{uuid4()}"},
        )
        connection.rollback()


def abandon_upload(engine: Engine, key: str) -> None:
    """The object ``key`` -> due to go now, unless its job is committed."""
    with begin(engine) as connection:
        connection.execute(
            text("UPDATE removals SET due_at = clock_timestamp() WHERE prefix = :key"),
            {"key": key},
        )


def report_late_audio(engine: Engine, job_id: UUID) -> None:
    """What a ``prepare`` may have written after its job had no use for it -> due to go.

    A job that failed or was canceled may be retried: what belongs to it goes with its audio.
    """
    with begin(engine) as connection:
        job = connection.execute(
            text("SELECT state, audio_deleted_at FROM jobs WHERE id = :id"),
            {"id": job_id},
        ).one_or_none()
        if job is None or job.audio_deleted_at is not None:
            schedule_removal(connection, job_prefix(job_id), late_writes=True)
        elif job.state == "succeeded":
            schedule_removal(connection, pcm_prefix(job_id), late_writes=True)


def take_due_removals(engine: Engine, *, limit: int, patience_s: float) -> Sequence[Removal]:
    """Due -> taken; nobody else takes them within ``patience_s``.

    Those that were never tried come first: what cannot be removed does not hold up the rest.
    """
    with begin(engine) as connection:
        rows = connection.execute(
            text("""
                WITH due AS MATERIALIZED (
                    SELECT prefix FROM removals
                    WHERE due_at <= now() AND (
                        taken_at IS NULL OR taken_at <= now() - make_interval(secs => :patience_s)
                    )
                    ORDER BY taken_at NULLS FIRST, due_at LIMIT :limit
                    FOR UPDATE SKIP LOCKED
                )
                UPDATE removals SET taken_at = clock_timestamp()
                FROM due WHERE removals.prefix = due.prefix
                RETURNING removals.prefix, removals.taken_at
            """),
            {"limit": limit, "patience_s": patience_s},
        )
        return [Removal(row.prefix, row.taken_at) for row in rows]


def confirm_removal(engine: Engine, removal: Removal) -> None:
    """Taken -> gone, or due once more; nothing, where it was scheduled anew meanwhile."""
    with begin(engine) as connection:
        names = {"prefix": removal.prefix, "taken_at": removal.taken_at}
        connection.execute(
            text("""
                DELETE FROM removals
                WHERE prefix = :prefix AND taken_at = :taken_at AND again_at IS NULL
            """),
            names,
        )
        connection.execute(
            text("""
                UPDATE removals SET due_at = again_at, again_at = NULL, taken_at = NULL
                WHERE prefix = :prefix AND taken_at = :taken_at
            """),
            names,
        )
