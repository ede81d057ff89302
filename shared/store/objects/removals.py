"""Removals: objects to delete from the object store, and when.

A transaction that makes objects superfluous writes a row of ``removals``. The remover
(``shared.store.objects.remover``) deletes the objects that are due, retries until the store has
confirmed, and then deletes the row. An upload has such a row from before its first byte until its
job is committed, so the upload of a killed process is deleted when the row is due.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from shared.infra.database import begin, single, text
from shared.infra.errors import DatabaseUnavailable
from shared.store.objects.keys import job_prefix, pcm_prefix

LATE_WRITES_S = 900.0
"""When a prefix is due again for what a worker wrote late. A worker whose claim is void learns of
it within a heartbeat (10 s), but the store may accept the request under way later: it is tried
three times, 22 s each. The rest is a margin for slow heartbeats and stores. A worker that was
frozen for longer reports what it wrote when it wakes (``report_late_audio``)."""


_LOCK = 0x1096B
"""Advisory lock: shared by those who take removals, and alone by a backup."""


@dataclass(frozen=True, slots=True)
class Removal:
    """A prefix whose objects the caller is to delete now."""

    prefix: str
    taken_at: datetime
    """Fences ``confirm_removal``, as an epoch does."""


def schedule_removal(connection: Connection, prefix: str, *, late_writes: bool) -> None:
    """All objects under ``prefix`` -> due, once the transaction is committed.

    With ``late_writes``, as a worker may still be writing there, they are due again
    ``LATE_WRITES_S`` later.
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
    """The object ``key`` -> due after ``allowance_s``, unless what it is for is committed."""
    with single(engine) as connection:
        connection.execute(
            text("""
                INSERT INTO removals (prefix, due_at)
                VALUES (:key, clock_timestamp() + make_interval(secs => :allowance_s))
                ON CONFLICT (prefix) DO UPDATE SET due_at = excluded.due_at, taken_at = NULL
            """),
            {"key": key, "allowance_s": allowance_s},
        )


def try_upload(engine: Engine) -> None:
    """Write a row as ``begin_upload`` does, and roll it back: an upload could begin now."""
    with begin(engine) as connection:
        connection.execute(
            text("INSERT INTO removals (prefix, due_at) VALUES (:key, clock_timestamp())"),
            {"key": f"health/{uuid4()}"},
        )
        connection.rollback()


def abandon_upload(engine: Engine, key: str) -> None:
    """The object ``key`` -> due now, unless its job is committed."""
    with single(engine) as connection:
        connection.execute(
            text("UPDATE removals SET due_at = clock_timestamp() WHERE prefix = :key"),
            {"key": key},
        )


def report_late_audio(engine: Engine, job_id: UUID) -> None:
    """Audio that a ``prepare`` may have written after its job had no use for it -> due.

    The audio of a job that failed or was canceled stays for a retry, until its retention ends.
    """
    with begin(engine) as connection:
        job = connection.execute(
            text("SELECT state, audio_deleted_at FROM jobs WHERE id = :id"), {"id": job_id}
        ).one_or_none()
        if job is None or job.audio_deleted_at is not None:
            schedule_removal(connection, job_prefix(job_id), late_writes=True)
        elif job.state == "succeeded":
            schedule_removal(connection, pcm_prefix(job_id), late_writes=True)


def take_due_removals(engine: Engine, *, limit: int, patience_s: float) -> Sequence[Removal]:
    """Due -> taken, for ``patience_s``.

    Removals that were never tried come first, so those that fail do not hold up the rest. Nothing
    is due while a backup is made (``removals_held``).
    """
    with single(engine) as connection:
        rows = connection.execute(
            text("""
                WITH turn AS MATERIALIZED (
                    SELECT pg_try_advisory_xact_lock_shared(:lock) AS is_free
                ), due AS MATERIALIZED (
                    SELECT prefix FROM removals, turn
                    WHERE is_free AND due_at <= now() AND (
                        taken_at IS NULL OR taken_at <= now() - make_interval(secs => :patience_s)
                    )
                    ORDER BY taken_at NULLS FIRST, due_at LIMIT :limit
                    FOR UPDATE OF removals SKIP LOCKED
                )
                UPDATE removals SET taken_at = clock_timestamp()
                FROM due WHERE removals.prefix = due.prefix
                RETURNING removals.prefix, removals.taken_at
            """),
            {"limit": limit, "patience_s": patience_s, "lock": _LOCK},
        )
        return [Removal(row.prefix, row.taken_at) for row in rows]


def confirm_removal(engine: Engine, removal: Removal) -> None:
    """Taken -> gone, or due again; unchanged if it was scheduled anew meanwhile."""
    with single(engine) as connection:
        connection.execute(
            text("""
                WITH again AS (
                    UPDATE removals SET due_at = again_at, again_at = NULL, taken_at = NULL
                    WHERE prefix = :prefix AND taken_at = :taken_at AND again_at IS NOT NULL
                )
                DELETE FROM removals
                WHERE prefix = :prefix AND taken_at = :taken_at AND again_at IS NULL
            """),
            {"prefix": removal.prefix, "taken_at": removal.taken_at},
        )


@contextmanager
def removals_held(engine: Engine) -> Iterator[Callable[[], None]]:
    """Have nobody take removals: objects that rows need at its beginning stay until its end.

    Those removed already were in the rows of no transaction that begins now. Waits for another
    holder. Yields a function that raises ``DatabaseUnavailable`` if the hold was lost, as it is
    with its connection.
    """
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        holder = connection.execute(
            text("SELECT pg_backend_pid() FROM (SELECT pg_advisory_lock(:lock)) AS taken"),
            {"lock": _LOCK},
        ).scalar_one()

        def confirm() -> None:
            try:
                same = connection.execute(text("SELECT pg_backend_pid()")).scalar_one() == holder
            except DBAPIError as error:
                raise DatabaseUnavailable("the connection to Postgres broke") from error
            if not same:
                raise DatabaseUnavailable("the connection to Postgres was not its own")

        try:
            yield confirm
        finally:
            connection.invalidate()  # closes it, and so ends the session that has the lock
