"""The plan of a job: the steps that ``prepare`` adds while it runs and as it ends."""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine

from shared.infra.database import text
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.chunk import chunk_from_json
from shared.store.queues import LARGE_QUEUE
from shared.store.states import StepKind
from shared.store.steps.claims import Claim, fenced
from shared.store.steps.completion import MOST_PERCENT, STEP_DONE, step_values
from shared.store.steps.diarize import insert_spans, queue_finish
from shared.store.steps.fair_order import room_in
from shared.store.successors import NewStep, insert_steps, queue_of, release_held


def add_chunks(
    engine: Engine,
    claim: Claim,
    chunks: Sequence[NewStep],
    *,
    spans: Sequence[NewStep] = (),
    max_attempts: int,
    share: float = 0.0,
    hold: bool = False,
) -> None:
    """Nothing -> ``transcribe`` and ``diarize`` steps queued, while ``prepare`` runs.

    Chunks that an earlier attempt planned stay as they are, done or not. Chunks on hold are due
    once the job's ``detect`` step is done, and are not held if it is done already. ``share`` is the
    estimated share of the whole audio that is planned with them, in [0, 1].
    """
    with fenced(engine, claim) as connection:
        audio_s = _insert_chunks(connection, claim, chunks, max_attempts, hold)
        insert_spans(connection, claim, spans)
        connection.execute(
            text("""
                UPDATE jobs SET chunks_total = chunks_total + :n,
                                audio_planned_s = audio_planned_s + :audio_s,
                                planned_share = greatest(planned_share, :share)
                WHERE id = :id
            """),
            {"id": claim.job_id, "share": share, "n": len(audio_s), "audio_s": sum(audio_s)},
        )


def move_to_large(engine: Engine, claim: Claim, *, live_s: float) -> bool:
    """``prepare`` running -> running as a step of large files, which its source did not look like.

    Returns whether it may go on; if not, the caller releases it, as enough of them are running.
    ``live_s`` is how long a worker counts as there after it was last seen.
    """
    with fenced(engine, claim) as connection:
        has_room = room_in(connection, LARGE_QUEUE, live_s) > 0
        connection.execute(
            text("UPDATE steps SET queue = :queue WHERE id = :id"),
            {"queue": LARGE_QUEUE, "id": claim.step_id},
        )
    return has_room


def add_detect(
    engine: Engine, claim: Claim, chunks: Sequence[Mapping[str, Any]], *, max_attempts: int
) -> None:
    """Nothing -> ``detect`` step queued, while ``prepare`` runs; ``chunks`` are what it hears."""
    with fenced(engine, claim) as connection:
        _insert_detect(connection, claim, chunks, max_attempts)


# planned_share is exact now. percent_done keeps a higher estimate, as it never falls.
_PLAN_COMPLETE = text(f"""
    WITH step AS ({STEP_DONE})
    UPDATE jobs
    SET chunks_total = chunks_total + :n,
        audio_planned_s = audio_planned_s + :audio_s,
        plan_complete = true, planned_share = 1, duration_s = :duration_s,
        metrics = metrics || :metrics, peaks = :peaks,
        percent_done = greatest(percent_done, least(:most, 100 * coalesce(
            audio_done_s / nullif(audio_planned_s + :audio_s, 0), 1
        )))
    WHERE id = :id
    RETURNING chunks_done = chunks_total
""")  # noqa: S608 - constants


def complete_prepare(
    engine: Engine,
    claim: Claim,
    *,
    duration_s: float,
    metrics: Mapping[str, Any],
    max_attempts: int,
    peaks: bytes = b"",
    chunks: Sequence[NewStep] = (),
    spans: Sequence[NewStep] = (),
    hold: bool = False,
    detect: Sequence[Mapping[str, Any]] = (),
    release: bool = False,
) -> None:
    """``prepare`` running -> done: the plan is complete with these last ``chunks`` and ``spans``.

    ``hold`` is as for ``add_chunks``. ``detect`` is what a ``detect`` step hears; without it none
    is added. With ``release`` the chunks on hold are due, as no ``detect`` step follows.
    """
    with fenced(engine, claim) as connection:
        audio_s = _insert_chunks(connection, claim, chunks, max_attempts, hold)
        insert_spans(connection, claim, spans)
        if detect:
            _insert_detect(connection, claim, detect, max_attempts)
        if release:
            queue = queue_of(StepKind.TRANSCRIBE, claim.options.model)
            release_held(connection, claim.job_id, queue)
        complete = connection.execute(
            _PLAN_COMPLETE,
            step_values(claim, metrics)
            | {
                "id": claim.job_id,
                "n": len(audio_s),
                "audio_s": sum(audio_s),
                "duration_s": duration_s,
                "metrics": Jsonb(dict(metrics)),
                "peaks": peaks,
                "most": MOST_PERCENT,
            },
        ).scalar_one()
        if complete:
            queue_finish(connection, claim.job_id, claim.kind, max_attempts)


def _insert_chunks(
    connection: Connection, claim: Claim, chunks: Sequence[NewStep], max_attempts: int, hold: bool
) -> list[float]:
    """Insert the chunks that are new; returns the seconds of each one's core."""
    # The completion of ``detect`` locks the job too, so it cannot miss chunks that are being added.
    hold = hold and not _is_detected(connection, claim)
    kind = StepKind.TRANSCRIBE
    queue = queue_of(kind, claim.options.model)
    inserted = insert_steps(connection, claim.job_id, kind, queue, chunks, max_attempts, hold=hold)
    planned = (chunk_from_json(new.idx, new.input) for new in chunks if new.idx in inserted)
    return [chunk.n_core_samples / SAMPLE_RATE for chunk in planned]


def _insert_detect(
    connection: Connection, claim: Claim, chunks: Sequence[Mapping[str, Any]], max_attempts: int
) -> None:
    kind = StepKind.DETECT
    new = NewStep(0, {"chunks": [dict(chunk) for chunk in chunks]})
    queue = queue_of(kind, claim.options.model)
    insert_steps(connection, claim.job_id, kind, queue, [new], max_attempts)


def _is_detected(connection: Connection, claim: Claim) -> bool:
    done = connection.execute(
        text("""
            SELECT EXISTS (
                SELECT FROM steps WHERE job_id = :id AND kind = 'detect' AND state = 'done'
            )
        """),
        {"id": claim.job_id},
    )
    return bool(done.scalar_one())
