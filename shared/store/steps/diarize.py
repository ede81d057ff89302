"""Steps that tell speakers apart: planned, given up, and what follows from their end.

A job succeeds without them. So a ``diarize`` step that fails does not fail its job: ``finish``
follows once none is left, whatever became of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import read
from shared.speech.speakers.spans import SpeakerSpan
from shared.store.queues import CPU_QUEUE
from shared.store.states import StepKind, StepState
from shared.store.steps.claims import Claim
from shared.store.successors import NewStep, after_all_chunks, insert_steps, queue_of

ATTEMPTS = 3
"""Of a ``diarize`` step: the transcript waits for it."""


@dataclass(frozen=True, slots=True)
class SpanResult:
    """What became of a ``diarize`` step."""

    idx: int
    span: SpeakerSpan
    is_done: bool
    n_bytes: int
    """Of what it stored."""
    engine: str
    weights: str
    """The digest of what its worker had loaded."""
    error: str
    """Why it failed, as a part of a sentence."""


def insert_spans(connection: Connection, claim: Claim, spans: Sequence[NewStep]) -> None:
    """Nothing -> ``diarize`` steps queued, while ``prepare`` runs.

    Those that an earlier attempt planned stay as they are.
    """
    if claim.options.diarization is not None:
        queue = queue_of(StepKind.DIARIZE, claim.options.diarization)
        insert_steps(connection, claim.job_id, StepKind.DIARIZE, queue, spans, ATTEMPTS)


def queue_finish(connection: Connection, job_id: UUID, after: StepKind, max_attempts: int) -> None:
    """Nothing -> ``finish`` queued, if nothing of the job is left to be heard.

    The caller has locked the job's row, so of two steps that end at once the second sees the first.
    """
    is_heard = connection.execute(
        text("""
            SELECT plan_complete AND chunks_done = chunks_total AND NOT EXISTS (
                SELECT FROM steps
                WHERE job_id = :id AND kind = 'diarize' AND state IN ('queued', 'running')
            ) FROM jobs WHERE id = :id
        """),
        {"id": job_id},
    ).scalar_one()
    if is_heard:
        kind = after_all_chunks(after)
        insert_steps(connection, job_id, kind, CPU_QUEUE, [NewStep(0)], max_attempts)


def give_up_spans(connection: Connection, job_id: UUID, queue: str, code: str, detail: str) -> None:
    """``diarize`` steps queued -> failed, all of a queue that nobody serves.

    The caller has locked the job's row, and there are such steps.
    """
    given_up = connection.execute(
        text("""
            UPDATE steps SET state = 'failed', error_code = :code, error_detail = :detail,
                             finished_at = clock_timestamp()
            WHERE job_id = :id AND queue = :queue AND kind = 'diarize' AND state = 'queued'
            RETURNING max_attempts
        """),
        {"id": job_id, "queue": queue, "code": code, "detail": detail},
    ).scalars()
    queue_finish(connection, job_id, StepKind.DIARIZE, max(given_up))


def span_results(engine: Engine, job_id: UUID) -> list[SpanResult]:
    """Return what became of a job's spans, in order."""
    with read(engine) as connection:
        rows = connection.execute(
            text("""
                SELECT idx, input, state, output, error_detail FROM steps
                WHERE job_id = :id AND kind = 'diarize' ORDER BY idx
            """),
            {"id": job_id},
        ).all()
    return [
        SpanResult(
            row.idx,
            SpeakerSpan.from_json(row.input),
            row.state == StepState.DONE,
            *_stored(row.output or {}),
            row.error_detail or "",
        )
        for row in rows
    ]


def _stored(output: Mapping[str, Any]) -> tuple[int, str, str]:
    return output.get("bytes", 0), output.get("engine", ""), output.get("weights", "")
