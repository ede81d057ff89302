"""Jobs that no worker serves: they fail after the longest wait that the settings allow.

A job that is transcribed, and whose speakers alone nobody looks for, goes on without them.
"""

from collections.abc import Callable
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
        WHERE {queue} = ANY (workers.queues)
          AND last_seen_at > statement_timestamp() - make_interval(
              secs => CASE WHEN state IN ('ready', 'unloaded') THEN :wait_s ELSE :live_s END
          )
    ) AND NOT EXISTS (
        SELECT FROM served_queues
        WHERE served_queues.queue = {queue}
          AND last_served_at > statement_timestamp() - make_interval(secs => :wait_s)
    )
"""

_IS_TRANSCRIBED = "jobs.plan_complete AND jobs.chunks_done = jobs.chunks_total"

# Each queue is found by one index lookup ("loose index scan"), and any of its steps tells whether
# they are of speakers. Steps are searched only in queues that nobody serves.
_UNSERVED_JOBS = f"""
    WITH RECURSIVE queues AS (
        SELECT min(queue) AS queue FROM steps WHERE {_WAITING}
        UNION ALL
        SELECT (
            SELECT min(steps.queue) FROM steps WHERE steps.queue > queues.queue AND {_WAITING}
        ) FROM queues WHERE queues.queue IS NOT NULL
    )
    SELECT DISTINCT overdue.job_id, queues.queue
    FROM queues CROSS JOIN LATERAL (
        SELECT job_id FROM steps {{due}}
        WHERE steps.queue = queues.queue AND {_OVERDUE}
        ORDER BY run_at LIMIT :limit
    ) AS overdue
    WHERE queues.queue IS NOT NULL AND {_UNSERVED.format(queue="queues.queue")} AND (
        SELECT kind = 'diarize' FROM steps
        WHERE steps.queue = queues.queue AND {_WAITING} LIMIT 1
    ) = {{of_speakers}}
    ORDER BY job_id
"""  # noqa: S608 - the variable parts are constants
UNSERVED_JOBS = _UNSERVED_JOBS.format(due="", of_speakers="FALSE")
UNSERVED_SPEAKERS = _UNSERVED_JOBS.format(
    due=f"JOIN jobs ON jobs.id = steps.job_id AND {_IS_TRANSCRIBED}", of_speakers="TRUE"
)


def fail_unserved(engine: Engine, *, wait_s: float, live_s: float, limit: int = 500) -> int:
    """Jobs queued or running -> failed whose step has waited ``wait_s`` for a worker.

    The wait counts from when the step became due, or from when the last ready worker of its queue
    was seen, if that was later. A loading worker seen within ``live_s`` ends it too. Jobs that wait
    for such a job fail with it. None fails in the first ``GRACE_S`` (or ``wait_s``, if less) after
    the sweeper's start.

    Looks at most at ``limit`` steps of each queue, the longest waiting first. Each job has a
    transaction of its own, and one whose row is locked is left to the next sweep. Returns the
    number of jobs that failed.
    """

    def fail(connection: Connection, job_id: UUID, queue: str) -> None:
        advice = "start one, then retry the job"
        fail_job(connection, job_id, NoWorker.code, f"{_absent(queue, wait_s)}; {advice}")

    return _end_waits(engine, UNSERVED_JOBS, fail, wait_s=wait_s, live_s=live_s, limit=limit)


def give_up_speakers(engine: Engine, *, wait_s: float, live_s: float, limit: int = 500) -> int:
    """``diarize`` steps queued -> failed that alone keep their job from its transcript.

    They have waited ``wait_s`` for a worker, counted as ``fail_unserved`` does. Those of a job that
    is still being transcribed wait on: a worker may come. Returns the number of jobs that go on
    without some of their speakers.
    """

    def give_up(connection: Connection, job_id: UUID, queue: str) -> None:
        give_up_spans(connection, job_id, queue, NoWorker.code, _absent(queue, wait_s))

    return _end_waits(engine, UNSERVED_SPEAKERS, give_up, wait_s=wait_s, live_s=live_s, limit=limit)


def _end_waits(
    engine: Engine,
    statement: str,
    end: Callable[[Connection, UUID, str], None],
    *,
    wait_s: float,
    live_s: float,
    limit: int,
) -> int:
    """Lock each job that the statement finds, and end its wait; returns how many were ended."""
    if wait_s >= FOR_EVER_S:
        return 0
    with begin(engine) as connection:
        if not _has_swept_for(connection, min(wait_s, GRACE_S), live_s):
            return 0
        found = connection.execute(
            text(statement), {"wait_s": wait_s, "live_s": live_s, "limit": limit}
        ).all()
    ended = 0
    for job_id, queue in found:
        with begin(engine) as connection:
            if _lock(connection, job_id, queue, wait_s, live_s):
                end(connection, job_id, queue)
                ended += 1
    return ended


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


def _absent(queue: str, wait_s: float) -> str:
    model = queue_model(queue)
    worker = "CPU worker" if model is None else f"worker for model '{model}'"
    return f"no {worker} has been there for {duration(wait_s)}"
