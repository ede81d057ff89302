"""Jobs that no worker serves: they fail after the longest wait that the settings allow.

A job whose speakers alone nobody looks for goes on without them.
"""

from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.infra.errors import NoWorker
from shared.infra.quantities import duration
from shared.store.jobs.end import fail_job
from shared.store.queues import queue_model
from shared.store.retention import FOR_EVER_S
from shared.store.steps.diarize import give_up_spans

GRACE_S = 900.0
"""No job fails for this long after the sweeper's start: if the whole platform was off, the workers
start with it."""

_WAITING = "steps.state = 'queued' AND steps.kind NOT IN ('deliver', 'listen')"
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

# Each queue is found by one index lookup ("loose index scan"). Steps are searched only in queues
# that nobody serves.
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
    """Jobs queued or running -> failed whose step has waited ``wait_s`` for a worker.

    Where that is a ``diarize`` step, the step fails and its job goes on.

    The wait counts from when the step became due, or from when the last ready worker of its queue
    was seen, if that was later. A loading worker seen within ``live_s`` ends it too. Jobs that wait
    for such a job fail with it. None fails in the first ``GRACE_S`` (or ``wait_s``, if less) after
    the sweeper's start.

    Looks at most at ``limit`` steps of each queue, the longest waiting first. Each job has a
    transaction of its own, and one whose row is locked is left to the next sweep. Returns the
    number of jobs that failed.
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
                failure = NoWorker.code, _sentence(queue, wait_s)
                if not give_up_spans(connection, job_id, queue, *failure):
                    fail_job(connection, job_id, *failure)
                    failed += 1
    return failed


def _has_swept_for(connection: Connection, at_least_s: float, live_s: float) -> bool:
    found = connection.execute(
        text("""
            SELECT FROM workers
            WHERE role = 'beat'
              AND last_seen_at > clock_timestamp() - make_interval(secs => :live_s)
              AND started_at <= clock_timestamp() - make_interval(secs => :at_least_s)
            LIMIT 1
        """),
        {"live_s": live_s, "at_least_s": at_least_s},
    )
    return found.first() is not None


def _lock(connection: Connection, job_id: UUID, queue: str, wait_s: float, live_s: float) -> bool:
    """Lock the job and return whether it is still unserved."""
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
