"""The plan of a job: the steps that ``prepare`` adds to it while it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, text

from shared.chunks import SAMPLE_RATE, chunk_from_json
from shared.database import begin
from shared.states import StepKind
from shared.steps.audit import record
from shared.steps.claims import Claim, fence

PREPARE_QUEUE = "prepare"
PREPARE_LARGE_QUEUE = "prepare.large"
LARGE_BYTES = 16 * 1024**2
"""Smaller files take seconds: of speech at 64 kbit/s they have half an hour, which is decoded and
searched for speech in some three."""
FINISH_QUEUE = "finish"


_MODEL_PREFIX = "model."


def model_queue(model: str) -> str:
    """Return the name of the queue that the workers of ``model`` consume."""
    return f"{_MODEL_PREFIX}{model}"


def queue_model(queue: str) -> str | None:
    """Return the model whose workers consume the queue; None where it is no model's."""
    return queue.removeprefix(_MODEL_PREFIX) if queue.startswith(_MODEL_PREFIX) else None


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A step to be added: its number among its kind, and its input; for chunks, their JSON form."""

    idx: int
    input: Mapping[str, Any]


def add_chunks(
    engine: Engine,
    claim: Claim,
    chunks: Sequence[NewChunk],
    *,
    max_attempts: int,
    share: float = 0.0,
    hold: bool = False,
) -> None:
    """Nothing -> ``transcribe`` steps queued, while ``prepare`` runs.

    A chunk that an earlier attempt planned stays as it is, done or not. Chunks on hold are not due
    before the job's language is known (``add_detect``, ``release_chunks``); where it has been
    sought already, they are not held. ``share`` is how much of the whole audio is planned with
    them, in [0, 1], as far as that can be told.

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        fence(connection, claim)
        # Whoever completes ``detect`` locks the job too: it cannot release what is held and miss
        # the chunks that are being added.
        hold = hold and not _is_detected(connection, claim.job_id)
        inserted = insert_steps(
            connection,
            claim.job_id,
            StepKind.TRANSCRIBE,
            model_queue(claim.options.model),
            chunks,
            max_attempts,
            hold=hold,
        )
        planned = (chunk_from_json(new.idx, new.input) for new in chunks if new.idx in inserted)
        connection.execute(
            text("""
                UPDATE jobs SET chunks_total = chunks_total + :n,
                                audio_planned_s = audio_planned_s + :audio_s,
                                planned_share = greatest(planned_share, :share)
                WHERE id = :id
            """),
            {
                "n": len(inserted),
                "share": share,
                "audio_s": sum(chunk.n_core_samples for chunk in planned) / SAMPLE_RATE,
                "id": claim.job_id,
            },
        )


def release_chunks(engine: Engine, claim: Claim) -> None:
    """Chunks on hold -> due: no language is to be detected first.

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        fence(connection, claim)
        release_held(connection, claim.job_id)


def add_detect(
    engine: Engine, claim: Claim, chunks: Sequence[Mapping[str, Any]], *, max_attempts: int
) -> None:
    """Nothing -> ``detect`` step queued, while ``prepare`` runs; ``chunks`` are what it hears.

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        fence(connection, claim)
        insert_steps(
            connection,
            claim.job_id,
            StepKind.DETECT,
            model_queue(claim.options.model),
            [NewChunk(0, {"chunks": [dict(chunk) for chunk in chunks]})],
            max_attempts,
        )


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


def _is_detected(connection: Connection, job_id: UUID) -> bool:
    done = connection.execute(
        text("""
            SELECT EXISTS (
                SELECT FROM steps WHERE job_id = :id AND kind = 'detect' AND state = 'done'
            )
        """),
        {"id": job_id},
    )
    return bool(done.scalar_one())


def release_held(connection: Connection, job_id: UUID) -> None:
    """Chunks on hold -> due; the caller has locked the job row."""
    connection.execute(
        text("""
            UPDATE steps SET run_at = clock_timestamp()
            WHERE job_id = :id AND kind = 'transcribe' AND state = 'queued' AND run_at = 'infinity'
        """),
        {"id": job_id},
    )
