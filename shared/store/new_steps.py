"""Steps as they are added to a job, and those held back until they are due."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, text

from shared.store.audit import record
from shared.store.queues import LARGE_BYTES, PREPARE_LARGE_QUEUE, PREPARE_QUEUE
from shared.store.states import StepKind


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A step to be added: its number among its kind, and its input; for chunks, their JSON form."""

    idx: int
    input: Mapping[str, Any]


def insert_steps(
    connection: Connection,
    job_id: UUID,
    kind: StepKind,
    queue: str,
    new: Sequence[NewChunk],
    max_attempts: int,
    *,
    hold: bool = False,
) -> set[int]:
    """Nothing -> queued; returns the idx of those that are new. Those on hold are never due."""
    if not new:
        return set()
    rows = connection.execute(
        text("""
            INSERT INTO steps (job_id, kind, idx, queue, tenant, rank, max_attempts, input, run_at)
            SELECT jobs.id, :kind, plan.idx, :queue, jobs.tenant, -jobs.priority, :max_attempts,
                   plan.input, CASE WHEN :hold THEN 'infinity' ELSE now() END
            FROM jobs,
                 unnest(CAST(:idxs AS int[]), CAST(:inputs AS jsonb[])) AS plan (idx, input)
            WHERE jobs.id = :job_id
            ON CONFLICT (job_id, kind, idx) DO NOTHING
            RETURNING id, idx
        """),
        {
            "job_id": job_id,
            "kind": kind,
            "queue": queue,
            "max_attempts": max_attempts,
            "hold": hold,
            "idxs": [chunk.idx for chunk in new],
            "inputs": [Jsonb(dict(chunk.input)) for chunk in new],
        },
    ).all()
    for row in rows:
        record(connection, job_id, "step.queued", step_id=row.id)
    return {row.idx for row in rows}


def insert_prepare(connection: Connection, job_id: UUID, max_attempts: int) -> None:
    """Nothing -> ``prepare`` step queued, with those of other large files if its own is large."""
    source_bytes = connection.execute(
        text("SELECT source_bytes FROM jobs WHERE id = :id"), {"id": job_id}
    ).scalar_one()
    queue = PREPARE_LARGE_QUEUE if source_bytes >= LARGE_BYTES else PREPARE_QUEUE
    insert_steps(connection, job_id, StepKind.PREPARE, queue, [NewChunk(0, {})], max_attempts)


def release_held(connection: Connection, job_id: UUID) -> None:
    """Chunks on hold -> due; the caller has locked the job row."""
    connection.execute(
        text("""
            UPDATE steps SET run_at = clock_timestamp()
            WHERE job_id = :id AND kind = 'transcribe' AND state = 'queued' AND run_at = 'infinity'
        """),
        {"id": job_id},
    )
