"""Calls: jobs whose clients wait for the answer, and which are canceled when all of them have left.

A call has a row that says until when it is wanted. While a client waits, its API process renews
that. Nobody has to notice that a client or an API process is gone: the sweeper cancels what is not
renewed. A client that comes back in time, to whichever process, finds its job still running.
"""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import EVERY_TENANT, begin, read, single
from shared.store.jobs.cancel import end_as_canceled
from shared.store.jobs.equal import lock_with_equals
from shared.store.states import ACTIVE_JOB_STATES

_UNWANTED = """
    calls.wanted_until < statement_timestamp() AND NOT EXISTS (
        SELECT FROM jobs AS copy LEFT JOIN calls AS its ON its.job_id = copy.id
        WHERE copy.original_id = calls.job_id AND copy.state = 'queued'
          AND (its.job_id IS NULL OR its.wanted_until >= statement_timestamp())
    )
"""
"""A call whose transcript another job waits for is wanted as long as that job is."""


def renew_calls(engine: Engine, job_ids: Collection[UUID], *, for_s: float) -> None:
    """Have these calls wanted for at least ``for_s`` from now; other jobs do not change."""
    with single(engine, EVERY_TENANT) as connection:
        connection.execute(
            text("""
                WITH free AS (
                    SELECT job_id FROM calls WHERE job_id = ANY (:ids)
                    ORDER BY job_id FOR NO KEY UPDATE
                )
                UPDATE calls SET wanted_until = greatest(
                    wanted_until, clock_timestamp() + make_interval(secs => :for_s)
                )
                FROM free WHERE calls.job_id = free.job_id
            """),
            {"ids": list(job_ids), "for_s": for_s},
        )


def keep_call(engine: Engine, tenant: str, job_id: UUID) -> None:
    """Call -> ordinary job, which goes on whoever leaves: its client was told of it."""
    with single(engine, tenant) as connection:
        forget_call(connection, job_id)


def forget_call(connection: Connection, job_id: UUID) -> None:
    """Call -> ordinary job, within the caller's transaction."""
    connection.execute(text("DELETE FROM calls WHERE job_id = :id"), {"id": job_id})


def cancel_unwanted(engine: Engine, *, max_attempts: int, limit: int = 100) -> int:
    """Calls that nobody wants any more -> canceled; rows of calls that have ended are deleted.

    Each job has a transaction of its own. Returns the number of jobs that were canceled.
    """
    with single(engine) as connection:
        connection.execute(
            text("""
                DELETE FROM calls WHERE job_id IN (
                    SELECT job_id FROM calls JOIN jobs ON jobs.id = job_id
                    WHERE state NOT IN ('queued', 'running')
                      AND wanted_until < statement_timestamp()
                    ORDER BY job_id FOR UPDATE OF calls SKIP LOCKED
                )
            """)
        )
    with read(engine) as connection:
        unwanted = connection.execute(
            text(f"""
                SELECT job_id, tenant FROM calls JOIN jobs ON jobs.id = job_id
                WHERE {_UNWANTED} ORDER BY job_id LIMIT :limit
            """),  # noqa: S608 - a constant
            {"limit": limit},
        ).all()
    return sum(_cancel(engine, call.tenant, call.job_id, max_attempts) for call in unwanted)


def _cancel(engine: Engine, tenant: str, job_id: UUID, max_attempts: int) -> bool:
    """Cancel a call unless it was renewed, or has ended, since it was found."""
    with begin(engine, tenant) as connection:
        # Nobody joins a call while its equals are locked.
        if lock_with_equals(connection, tenant, job_id) not in ACTIVE_JOB_STATES:
            return False
        found = connection.execute(
            text(f"SELECT FROM calls WHERE job_id = :id AND {_UNWANTED} FOR UPDATE"),
            {"id": job_id},
        )
        if found.first() is None:
            return False
        forget_call(connection, job_id)
        end_as_canceled(connection, job_id, max_attempts, "its client left")
        return True
