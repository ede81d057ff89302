"""The plan of a job: the steps that ``prepare`` adds to it while it runs."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.speech.chunks import SAMPLE_RATE, chunk_from_json
from shared.store.new_steps import NewChunk, insert_steps, release_held
from shared.store.queues import model_queue
from shared.store.states import StepKind
from shared.store.steps.claims import Claim, fence


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
