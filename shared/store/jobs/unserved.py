"""Jobs for which no worker comes: they fail once they have waited for as long as they may."""

from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.infra.errors import NoWorker
from shared.infra.quantities import duration
from shared.store.jobs.end import fail_job
from shared.store.queues import queue_model
from shared.store.retention import FOR_EVER_S

GRACE_S = 900.0
"""How long nobody is given up after the sweeper's start, at most: where the whole platform was off
the workers start with it."""

_WAITING = """
    steps.state = 'queued' AND steps.kind <> 'deliver'
"""
"""As in the index ``ix_steps_due``."""

_OVERDUE = f"""
    {_WAITING} AND steps.run_at <= statement_timestamp() - make_interval(secs => :wait_s)
"""

_UNSERVED = """
    NOT EXISTS (
        SELECT FROM workers
        WHERE {queue} = ANY (workers.queues) AND last_seen_at > statement_timestamp()
              - make_interval(secs => CASE state WHEN 'ready' THEN :wait_s ELSE :live_s END)
    ) AND NOT EXISTS (
        SELECT FROM served_queues
        WHERE served_queues.queue = {queue}
          AND last_served_at > statement_timestamp() - make_interval(secs => :wait_s)
    )
"""

# The queues are found by one look into the index each ("loose index scan"). Steps are looked for in
# those alone that nobody serves.
UNSERVED_JOBS = f"""
    WITH RECURSIVE queues AS (
        SELECT min(queue) AS queue FROM steps WHERE {_WAITING}
        UNION ALL
        SELECT (
            SELECT min(steps.queue) FROM steps WHERE steps.queue > queues.queue AND {_WAITING}
        ) FROM queues WHERE queues.queue IS NOT NULL
    )
    SELECT DISTINCT overdue.job_id, queues.queue
    FROM queues CROSS JOIN LATERAL (
        SELECT job_id FROM steps WHERE steps.queue = queues.queue AND {_OVERDUE}
        ORDER BY run_at LIMIT :limit
    ) AS overdue
    WHERE queues.queue IS NOT NULL AND {_UNSERVED.format(queue="queues.queue")}
    ORDER BY job_id
"""  # noqa: S608 - the variable parts are constants


def fail_unserved(engine: Engine, *, wait_s: float, live_s: float, limit: int = 500) -> int:
    """Jobs queued or running -> failed that wait for a worker, where none came for ``wait_s``.

    Counted is from when a step became due, or when the last ready worker of its queue was seen if
    that was later; one that is loading, and was heard of within ``live_s``, is waited for. Those
    that wait for such a job fail with it. Nobody is given up in the first ``GRACE_S`` (or
    ``wait_s``, if that is less) after the sweeper's start.

    Of each queue no more than ``limit`` steps are looked at, those first that have waited longest.
    Each job is its own transaction, and one whose row is locked is left to the next sweep. Returns
    the number of jobs that failed.
    """
    if wait_s >= FOR_EVER_S:
        return 0
    with begin(engine) as connection:
        if not _has_swept_for(connection, min(wait_s, GRACE_S), live_s):
            return 0
        found = connection.execute(
            text(UNSERVED_JOBS), {"wait_s": wait_s, "live_s": live_s, "limit": limit}
        ).all()
    failed = 0
    for job_id, queue in found:
        with begin(engine) as connection:
            if _lock(connection, job_id, queue, wait_s, live_s):
                fail_job(connection, job_id, NoWorker.code, _sentence(queue, wait_s))
                failed += 1
    return failed


def _has_swept_for(connection: Connection, at_least_s: float, live_s: float) -> bool:
    found = connection.execute(
        text("""
            SELECT EXISTS (
                SELECT FROM workers
                WHERE role = 'beat'
                  AND last_seen_at > clock_timestamp() - make_interval(secs => :live_s)
                  AND started_at <= clock_timestamp() - make_interval(secs => :at_least_s)
            )
        """),
        {"live_s": live_s, "at_least_s": at_least_s},
    )
    return bool(found.scalar_one())


def _lock(connection: Connection, job_id: UUID, queue: str, wait_s: float, live_s: float) -> bool:
    """Lock the job, so that no step of it is claimed; return whether it waits still, in vain."""
    locked = connection.execute(
        text("""
            SELECT id FROM jobs WHERE id = :id AND state IN ('queued', 'running')
            FOR NO KEY UPDATE SKIP LOCKED
        """),
        {"id": job_id},
    )
    if locked.one_or_none() is None:
        return False
    waits = connection.execute(
        text(f"""
            SELECT EXISTS (
                SELECT FROM steps WHERE job_id = :id AND steps.queue = :queue AND {_OVERDUE}
            ) AND {_UNSERVED.format(queue="CAST(:queue AS text)")}
        """),  # noqa: S608 - the variable parts are constants
        {"id": job_id, "queue": queue, "wait_s": wait_s, "live_s": live_s},
    )
    return bool(waits.scalar_one())


def _sentence(queue: str, wait_s: float) -> str:
    model = queue_model(queue)
    worker = "CPU worker" if model is None else f"worker for model '{model}'"
    return f"no {worker} has been there for {duration(wait_s)}; start one, then retry the job"
