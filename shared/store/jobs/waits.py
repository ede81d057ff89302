"""What a job waits for while no worker is at it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, Engine

from shared.infra.database import EVERY_TENANT, fetch, read
from shared.store.queues import CPU_QUEUE, FETCH_QUEUE, LARGE_QUEUE, model_queue, queue_model

WaitingCode = Literal["model_worker", "cpu_worker", "equal_job"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a job waits for."""

    code: WaitingCode
    detail: str
    """For a person; continues "waits for"."""


def find_waits(engine: Engine, job_ids: Collection[UUID], *, live_s: float) -> dict[UUID, Waiting]:
    """Return what these jobs wait for, without those that only wait for their turn.

    A worker is there if it was seen within ``live_s``; one that loads its model is waited for.
    """
    if not job_ids:
        return {}
    with read(engine, EVERY_TENANT) as connection:
        return read_waits(connection, job_ids, live_s=live_s)


def read_waits(
    connection: Connection, job_ids: Collection[UUID], *, live_s: float
) -> dict[UUID, Waiting]:
    """Return as ``find_waits`` does."""
    queues = {
        "cpu": CPU_QUEUE,
        "fetch": FETCH_QUEUE,
        "large": LARGE_QUEUE,
        "models": model_queue(""),
    }
    waits: dict[UUID, Waiting] = {}
    for row in fetch(connection, _WAITS, {"ids": list(job_ids), "live_s": live_s, **queues}):
        if row["has_original"]:
            detail = "an equal job that is under way, whose transcript it will get"
            waits[row["id"]] = Waiting("equal_job", detail)
        elif row["queue"] is not None:
            state = f" (it is {row['worker_state']})" if row["worker_state"] else ""
            if queue_model(row["queue"]) is None:
                waits[row["id"]] = Waiting("cpu_worker", f"a CPU worker{state}")
            else:
                what_for = ", to tell its speakers apart" if row["kind"] == "diarize" else ""
                detail = f"a worker for model {queue_model(row['queue'])}{state}{what_for}"
                waits[row["id"]] = Waiting("model_worker", detail)
    return waits


# Only queues that no ready worker serves are searched, by descending idx: a job may have thousands
# of chunks, and the done ones have low numbers.
_WAITS = """
    WITH served AS (
        SELECT queue, bool_or(state = 'ready') AS ready,
               CASE WHEN bool_or(state = 'loading') THEN 'loading'
                    WHEN bool_or(state = 'unloaded') THEN 'unloaded' ELSE 'drained' END
                   AS worker_state
        FROM workers CROSS JOIN unnest(queues) AS queue
        WHERE last_seen_at > clock_timestamp() - make_interval(secs => %(live_s)s)
        GROUP BY queue
    )
    SELECT jobs.id, original_id IS NOT NULL AS has_original, due.queue,
           due.kind, due.worker_state
    FROM jobs LEFT JOIN LATERAL (
        SELECT step.queue, kinds.kind, served.worker_state
        FROM (VALUES (0, 'fetch', %(fetch)s),
                     (1, 'prepare', %(cpu)s), (1, 'prepare', %(large)s),
                     (2, 'detect', %(models)s || jobs.model),
                     (3, 'transcribe', %(models)s || jobs.model),
                     (4, 'diarize', %(models)s || (jobs.options -> 'speakers' ->> 'model')),
                     (5, 'finish', %(cpu)s)) AS kinds (place, kind, queue)
        LEFT JOIN served ON served.queue = kinds.queue
        CROSS JOIN LATERAL (
            SELECT queue FROM steps
            WHERE job_id = jobs.id AND steps.kind = kinds.kind
              AND steps.queue = kinds.queue
              AND state = 'queued' AND run_at <= clock_timestamp()
            ORDER BY idx DESC LIMIT 1
        ) AS step
        WHERE served.ready IS NOT TRUE
        ORDER BY place LIMIT 1
    ) AS due ON original_id IS NULL
    WHERE jobs.id = ANY (%(ids)s) AND state IN ('queued', 'running')
"""
