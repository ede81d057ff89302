"""Which step follows which; adding steps to a job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, text

from shared.store.queues import (
    CPU_QUEUE,
    FETCH_QUEUE,
    LARGE_BYTES,
    LARGE_QUEUE,
    LISTEN_QUEUE,
    model_queue,
)
from shared.store.states import StepKind
from shared.store.wakeups import ring_after_commit


class When(Enum):
    """When a successor is added."""

    DONE = auto()
    """When its predecessor is done, unless an equal job makes it superfluous."""
    PLANNED = auto()
    """While its predecessor runs and finds what there is to do."""
    ALL_CHUNKS_DONE = auto()
    """Once the plan is complete, every chunk is done and every span's speakers were looked for, in
    the transaction that makes all of it true: exactly once."""
    SUCCEEDED = auto()
    """With the job's success, if listening copies are wanted."""


SUCCESSORS: Mapping[StepKind, Mapping[StepKind, When]] = {
    StepKind.FETCH: {StepKind.PREPARE: When.DONE},
    StepKind.PREPARE: {
        StepKind.DETECT: When.PLANNED,
        StepKind.TRANSCRIBE: When.PLANNED,
        StepKind.DIARIZE: When.PLANNED,
        StepKind.FINISH: When.ALL_CHUNKS_DONE,
    },
    StepKind.TRANSCRIBE: {
        StepKind.FINISH: When.ALL_CHUNKS_DONE,
        StepKind.LISTEN: When.SUCCEEDED,
    },
    StepKind.DIARIZE: {StepKind.FINISH: When.ALL_CHUNKS_DONE},
    StepKind.FINISH: {StepKind.LISTEN: When.SUCCEEDED},
}
"""What follows each kind. A job begins with ``prepare``, or with ``fetch`` where its file is at a
URL, and ends with a step that nothing follows. ``deliver`` steps follow the end of the job, not a
step. The only chunk of a short file needs no ``finish``: the model worker completes the job
(``complete_only_chunk``)."""

_MODEL_STEPS = (StepKind.DETECT, StepKind.TRANSCRIBE, StepKind.DIARIZE)


def queue_of(successor: StepKind, model: str) -> str:
    """Return the queue of a step that follows another, for which this model is used."""
    if successor is StepKind.LISTEN:
        return LISTEN_QUEUE
    return model_queue(model) if successor in _MODEL_STEPS else CPU_QUEUE


def after_all_chunks(kind: StepKind) -> StepKind:
    """Return the kind of step that follows this kind once all chunks are done."""
    followers = SUCCESSORS[kind].items()
    (successor,) = (each for each, when in followers if when is When.ALL_CHUNKS_DONE)
    return successor


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step to be added."""

    idx: int
    """Its number among the job's steps of its kind."""
    input: Mapping[str, Any] = field(default_factory=dict)
    """The JSON form of a chunk."""
    audio: bytes | None = None
    """Samples of a short file's only chunk, s16le: they need no object of their own."""


_DUE_TURN = "longhand_due_turn({queue})"
"""SQL for the lowest turn among a queue's steps that are due, of all tenants: a function of the
migrations, as the API's role sees the steps of one tenant."""

TURNS = f"""
    SELECT
        greatest(
            0,
            (SELECT job_turn + 1 FROM steps
             WHERE job_id = jobs.id AND kind = {{kind}} AND state = 'queued'
             ORDER BY idx DESC LIMIT 1),
            (SELECT job_turn FROM steps
             WHERE queue = {{queue}} AND tenant = jobs.tenant AND rank = -jobs.priority
               AND kind <> 'deliver' AND state = 'queued'
             ORDER BY job_turn LIMIT 1)
        ) AS of_job,
        greatest(
            0,
            (SELECT tenant_turn + 1 FROM steps
             WHERE queue = {{queue}} AND tenant = jobs.tenant
               AND kind <> 'deliver' AND state = 'queued'
             ORDER BY tenant_turn DESC LIMIT 1),
            {_DUE_TURN}
        ) AS of_tenant
"""  # noqa: S608 - constants
"""SQL for the next turns of a job (the row ``jobs``) and its tenant in a queue.

This is start-time fair queueing (Goyal, Vin, Cheng, "Start-time Fair Queueing", SIGCOMM 1996) where
every step costs one turn. A tenant that had nothing waiting starts at the queue's current turn, so
turns cannot be saved up, and many waiting steps do not come before few. ``tenant_turn`` orders the
tenants of a queue, ``job_turn`` the jobs of a tenant. Each takes one index lookup. Concurrent
transactions may draw the same turn; a tie costs nobody more than one."""


def first_turn(queue: str) -> str:
    """Return SQL for the turn before all that wait in a queue; ``queue`` is SQL too."""
    return f"coalesce({_DUE_TURN.format(queue=queue)}, 0)"


# Postgres sees how long an array is that is a parameter, but not one from a subquery. Otherwise it
# would plan the statement anew each time, expecting more rows of any array than there usually are.
_INSERT = text(f"""
    INSERT INTO steps (job_id, kind, idx, queue, tenant, rank, job_turn, tenant_turn, max_attempts,
                       input, audio, run_at)
    SELECT jobs.id, :kind, plan.idx, :queue, jobs.tenant, -jobs.priority,
           turn.of_job + plan.n - 1, turn.of_tenant + plan.n - 1, :max_attempts,
           plan.input, CAST(:audio AS bytea),
           CASE WHEN :hold THEN 'infinity' ELSE clock_timestamp() END
    FROM jobs
    CROSS JOIN LATERAL ({TURNS.format(kind=":kind", queue=":queue")}) AS turn
    CROSS JOIN unnest((SELECT CAST(:idxs AS int[])), (SELECT CAST(:inputs AS jsonb[])))
        WITH ORDINALITY AS plan (idx, input, n)
    WHERE jobs.id = :job_id
    ON CONFLICT (job_id, kind, idx) DO NOTHING
    RETURNING idx
""")  # noqa: S608 - constants


def insert_steps(
    connection: Connection,
    job_id: UUID,
    kind: StepKind,
    queue: str,
    new: Sequence[NewStep],
    max_attempts: int,
    *,
    hold: bool = False,
) -> set[int]:
    """Nothing -> queued; returns the idx of each new step. Steps on hold are not due.

    Workers are woken after the commit.
    """
    if not new:
        return set()
    audio = new[0].audio
    assert audio is None or len(new) == 1, "only the audio of an only chunk goes into its step"
    inserted = set(
        connection.execute(
            _INSERT,
            {
                "job_id": job_id,
                "kind": kind,
                "queue": queue,
                "max_attempts": max_attempts,
                "hold": hold,
                "idxs": [step.idx for step in new],
                "inputs": [Jsonb(dict(step.input)) for step in new],
                "audio": audio,
            },
        ).scalars()
    )
    if inserted and not hold:
        ring_after_commit(connection, queue, len(inserted))
    return inserted


def insert_prepare(
    connection: Connection, job_id: UUID, source_bytes: int, max_attempts: int
) -> None:
    """Nothing -> ``prepare`` step queued."""
    queue = LARGE_QUEUE if source_bytes >= LARGE_BYTES else CPU_QUEUE
    insert_steps(connection, job_id, StepKind.PREPARE, queue, [NewStep(0)], max_attempts)


def insert_fetches(
    connection: Connection, files: Sequence[tuple[UUID, str, bool]], *, max_attempts: int
) -> None:
    """Nothing -> ``fetch`` steps queued; a file is its job, its URL, and whether equal jobs share.

    The step alone has the whole URL, which may hold a secret, until the file is fetched.
    """
    if not files:
        return
    connection.execute(
        _INSERT,
        [
            {
                "job_id": job_id,
                "kind": StepKind.FETCH,
                "queue": FETCH_QUEUE,
                "max_attempts": max_attempts,
                "hold": False,
                "idxs": [0],
                "inputs": [Jsonb({"url": url, "cache": cache})],
                "audio": None,
            }
            for job_id, url, cache in files
        ],
    )
    ring_after_commit(connection, FETCH_QUEUE, len(files))


def release_held(connection: Connection, job_id: UUID, queue: str) -> None:
    """Chunks on hold -> due; the caller has locked the job's row."""
    released = connection.execute(
        text("""
            UPDATE steps SET run_at = clock_timestamp()
            WHERE job_id = :id AND kind = 'transcribe' AND state = 'queued' AND run_at = 'infinity'
        """),
        {"id": job_id},
    ).rowcount
    if released:
        ring_after_commit(connection, queue, released)
