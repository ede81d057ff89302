"""Steps done: what each kind leaves behind, and what follows from it."""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.speech.manifest import Manifest
from shared.speech.transcript import Segment, TranscriptHeader
from shared.store.jobs.accuracy import measure_at_once
from shared.store.jobs.end import end_jobs
from shared.store.jobs.equal import share_transcript
from shared.store.new_steps import NewChunk, insert_steps, release_held
from shared.store.objects.keys import pcm_prefix
from shared.store.objects.removals import schedule_removal
from shared.store.queues import FINISH_QUEUE
from shared.store.states import StepKind
from shared.store.steps.claims import Claim, fence, record_step

_MOST_PERCENT = 99.0
"""Of a job that has not succeeded: the last one is for ``finish``."""

_SEGMENTS_AT_ONCE = 20
"""Rows of a transcript written by one statement: tens of kilobytes, of which Postgres needs
several copies while it reads them."""


def complete_prepare(
    engine: Engine,
    claim: Claim,
    *,
    duration_s: float,
    metrics: Mapping[str, Any],
    max_attempts: int,
) -> None:
    """``prepare`` running -> done: the plan is complete.

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        fence(connection, claim)
        finish_step(connection, claim, output=None, timings=metrics)
        connection.execute(
            text("""
                UPDATE jobs SET plan_complete = true, planned_share = 1, duration_s = :duration_s,
                                metrics = metrics || :metrics
                WHERE id = :id
            """),
            {"id": claim.job_id, "duration_s": duration_s, "metrics": Jsonb(dict(metrics))},
        )
        _advance(connection, claim.job_id, max_attempts)


def complete_detect(
    engine: Engine,
    claim: Claim,
    *,
    language: str | None,
    probability: float | None,
    timings: Mapping[str, Any],
) -> None:
    """``detect`` running -> done: the job has its language, and its chunks on hold are due.

    With None, where no speech was heard, every chunk detects its own.

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        fence(connection, claim)
        finish_step(connection, claim, output=None, timings=timings)
        connection.execute(
            text("""
                UPDATE jobs SET detected_language = :language, detected_probability = :probability
                WHERE id = :id
            """),
            {"id": claim.job_id, "language": language, "probability": probability},
        )
        release_held(connection, claim.job_id)


def complete_transcribe(
    engine: Engine,
    claim: Claim,
    *,
    output: Mapping[str, Any],
    timings: Mapping[str, Any],
    audio_s: float,
    max_attempts: int,
) -> None:
    """``transcribe`` running -> done; the last one of a complete plan queues ``finish``.

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        fence(connection, claim)
        finish_step(connection, claim, output=output, timings=timings)
        connection.execute(
            text("""
                UPDATE jobs
                SET chunks_done = chunks_done + 1, audio_done_s = audio_done_s + :audio_s
                WHERE id = :id
            """),
            {"id": claim.job_id, "audio_s": audio_s},
        )
        _advance(connection, claim.job_id, max_attempts)


def complete_finish(
    engine: Engine,
    claim: Claim,
    *,
    segments: Iterable[Segment],
    header: Callable[[], TranscriptHeader],
    metrics: Callable[[], Mapping[str, Any]],
    manifest: Manifest,
) -> None:
    """``finish`` running -> done and job running -> succeeded, with the transcript.

    Jobs that wait for this one succeed with it. Those with a reference are measured, unless their
    texts are too long to be compared within a transaction (``measure_pending``).

    RTFx is audio seconds per wall second from the first claim to the stored transcript. A job that
    was retried has none: it did a part of its work before.

    Args:
        engine: the database.
        claim: of the ``finish`` step.
        segments: in order; taken and written a few at a time.
        header: called once all segments were taken.
        metrics: called after ``header``.
        manifest: what it takes to explain and repeat the transcript.

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        # Seen to be current before any work is done; nobody else can take it from here on.
        fence(connection, claim)
        connection.execute(
            text("INSERT INTO transcripts (id, header) VALUES (:id, '{}')"), {"id": claim.job_id}
        )
        remaining = iter(segments)
        while batch := list(islice(remaining, _SEGMENTS_AT_ONCE)):
            connection.execute(
                text("""
                    INSERT INTO transcript_segments (transcript_id, idx, document)
                    SELECT :id, (document ->> 'id')::int, document
                    FROM unnest(CAST(:documents AS jsonb[])) AS segment (document)
                """),
                {
                    "id": claim.job_id,
                    "documents": [Jsonb(segment.model_dump(mode="json")) for segment in batch],
                },
            )
        summary = header()
        connection.execute(
            text("UPDATE transcripts SET header = :header WHERE id = :id"),
            {"id": claim.job_id, "header": Jsonb(summary.model_dump(mode="json"))},
        )
        measured = dict(metrics())
        finish_step(connection, claim, output=None, timings=measured)
        connection.execute(
            text("""
                UPDATE jobs SET state = 'succeeded', finished_at = clock_timestamp(),
                                transcript_id = :id,
                                detected_language = CASE WHEN options ->> 'language' IS NULL
                                                         THEN :language END,
                                detected_probability = CASE WHEN options ->> 'language' IS NULL
                                                            THEN CAST(:probability AS real) END,
                                metrics = metrics || :metrics || CASE run WHEN 1
                                    THEN jsonb_build_object('rtfx', round((duration_s / extract(
                                        epoch FROM clock_timestamp() - started_at
                                    ))::numeric, 2))
                                    ELSE '{}'
                                END,
                                manifest = CAST(:manifest AS json)
                WHERE id = :id
            """),
            {
                "id": claim.job_id,
                "language": summary.language,
                "probability": summary.language_probability,
                "metrics": Jsonb(measured),
                "manifest": manifest.model_dump_json(),
            },
        )
        schedule_removal(connection, pcm_prefix(claim.job_id), late_writes=True)
        end_jobs(connection, [claim.job_id])
        shared = share_transcript(connection, claim.job_id)
        measure_at_once(connection, [claim.job_id, *shared])


def finish_step(
    connection: Connection,
    claim: Claim,
    *,
    output: Mapping[str, Any] | None,
    timings: Mapping[str, Any],
) -> None:
    """Step running -> done; the caller has fenced the claim, and does what follows from it."""
    connection.execute(
        text("""
            UPDATE steps SET state = 'done', output = :output,
                             timings = :timings || jsonb_build_object('queue_wait_s', round(
                                 extract(epoch FROM claimed_at - run_at), 4
                             )),
                             lease_until = NULL, finished_at = clock_timestamp()
            WHERE id = :id
        """),
        {
            "id": claim.step_id,
            "output": None if output is None else Jsonb(dict(output)),
            "timings": Jsonb(dict(timings)),
        },
    )
    record_step(connection, claim, "step.done")


def _advance(connection: Connection, job_id: UUID, max_attempts: int) -> None:
    """Note how far the job is, and queue ``finish`` if plan and chunks are complete.

    What share of the whole is planned is an estimate while the audio is being decoded, so the
    percentage could fall; what was said once is kept. The caller has locked the job row.
    """
    complete = connection.execute(
        text("""
            UPDATE jobs SET percent_done = greatest(percent_done, least(:most,
                100 * planned_share * coalesce(audio_done_s / nullif(audio_planned_s, 0), 1)
            ))
            WHERE id = :id RETURNING plan_complete AND chunks_done = chunks_total
        """),
        {"id": job_id, "most": _MOST_PERCENT},
    ).scalar_one()
    if complete:
        insert_steps(
            connection, job_id, StepKind.FINISH, FINISH_QUEUE, [NewChunk(0, {})], max_attempts
        )
