"""Steps done: what each kind stores, and what follows from it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine

from shared.infra.database import begin, single, text
from shared.speech.speakers.voiceprints import Voiceprints
from shared.speech.transcript.manifest import Manifest
from shared.speech.transcript.transcript import Segment, TranscriptHeader, segment_document
from shared.store.jobs.accuracy import measure_at_once
from shared.store.jobs.end import end_jobs
from shared.store.jobs.equal import share_transcript
from shared.store.news import announce
from shared.store.objects.keys import listening_key, pcm_prefix
from shared.store.objects.removals import schedule_removal
from shared.store.search import WITH_TENANT, segment_terms
from shared.store.states import StepKind
from shared.store.steps.claims import Claim, fenced
from shared.store.steps.diarize import queue_finish
from shared.store.successors import (
    NewStep,
    insert_steps,
    queue_of,
    release_held,
)

MOST_PERCENT = 99.0
"""The most that a job shows before it has succeeded: the last one is for ``finish``."""

_LISTEN_ATTEMPTS = 3

_SEGMENTS_AT_ONCE = 20
"""Rows of a transcript per statement: tens of kilobytes, which Postgres copies several times."""


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """A transcribed chunk."""

    claim: Claim
    output: Mapping[str, Any]
    """The hypothesis, as JSON."""
    timings: Mapping[str, Any]
    audio_s: float
    """Of the chunk's core."""


@dataclass(frozen=True, slots=True)
class Folded:
    """A transcript, to be written a few segments at a time."""

    segments: Iterable[Segment]
    """In order; iterated once."""
    header: Callable[[], TranscriptHeader]
    """Called once all segments are taken."""
    metrics: Callable[[], Mapping[str, Any]]
    """Of the job; called after ``header``."""
    manifest: Callable[[], Manifest]
    """Called after ``header``."""


def complete_detect(
    engine: Engine,
    claim: Claim,
    *,
    language: str | None,
    probability: float | None,
    timings: Mapping[str, Any],
) -> None:
    """``detect`` running -> done: the job has its language, and its chunks on hold are due.

    Without a language, as no speech was heard, every chunk detects its own.
    """
    with fenced(engine, claim) as connection:
        finish_step(connection, claim, timings)
        connection.execute(
            text("""
                UPDATE jobs SET detected_language = :language, detected_probability = :probability
                WHERE id = :id
            """),
            {"id": claim.job_id, "language": language, "probability": probability},
        )
        queue = queue_of(StepKind.TRANSCRIBE, claim.options.model)
        release_held(connection, claim.job_id, queue)


_DONE = """
    state = 'done', output = {output}, audio = NULL, lease_until = NULL,
    finished_at = clock_timestamp(), timings = {timings} || jsonb_build_object(
        'queue_wait_s', round(extract(epoch FROM claimed_at - run_at), 4)
    )
"""

# One statement, so that the locks on the jobs are held only for it and the commit. Jobs are locked
# in the order of their ids, and before their steps. Unless ``may_end``, chunks stay with which a
# job would have all of its chunks.
_COMPLETE_CHUNKS = text(f"""
    WITH item AS (
        SELECT * FROM unnest(
            CAST(:ids AS bigint[]), CAST(:job_ids AS uuid[]), CAST(:epochs AS int[]),
            CAST(:outputs AS jsonb[]), CAST(:timings AS jsonb[]), CAST(:audio_s AS float8[])
        ) AS item (id, job_id, epoch, output, timings, audio_s)
    ), job AS MATERIALIZED (
        SELECT id, plan_complete, chunks_total - chunks_done AS chunks_left
        FROM jobs WHERE id IN (SELECT job_id FROM item) ORDER BY id FOR NO KEY UPDATE
    ), done AS (
        UPDATE steps
        SET {_DONE.format(output="item.output", timings="item.timings")},
            event_id = nextval('event_ids')
        FROM item JOIN job ON job.id = item.job_id
        WHERE steps.id = item.id AND steps.epoch = item.epoch AND steps.state = 'running'
          AND (:may_end OR NOT job.plan_complete OR job.chunks_left > (
              SELECT count(*) FROM item AS mine WHERE mine.job_id = job.id
          ))
        RETURNING steps.id, steps.epoch, steps.job_id, steps.claimed_at, steps.event_id,
                  item.audio_s
    ), progress AS (
        SELECT job_id, count(*) AS chunks, sum(audio_s) AS audio_s, max(event_id) AS event_id,
               min(claimed_at) AS since
        FROM done GROUP BY job_id
    ), advanced AS (
        UPDATE jobs
        SET chunks_done = chunks_done + progress.chunks,
            audio_done_s = audio_done_s + progress.audio_s,
            -- Speed counts from the first claim of this run, without what an earlier run did.
            audio_kept_s = CASE WHEN transcribing_since IS NULL THEN audio_done_s
                                ELSE audio_kept_s END,
            transcribing_since = coalesce(transcribing_since, progress.since),
            last_event = progress.event_id,
            percent_done = greatest(percent_done, least(:most, 100 * planned_share * coalesce(
                (audio_done_s + progress.audio_s) / nullif(audio_planned_s, 0), 1
            )))
        FROM progress WHERE jobs.id = progress.job_id
        RETURNING jobs.id, plan_complete AND chunks_done = chunks_total AS complete
    )
    SELECT done.id, done.epoch, advanced.complete
    FROM done JOIN advanced ON advanced.id = done.job_id
""")  # noqa: S608 - constants


def complete_chunks(
    engine: Engine, results: Sequence[ChunkResult], *, max_attempts: int
) -> list[Claim]:
    """``transcribe`` running -> done for a whole batch; the last chunk of a plan queues ``finish``.

    Returns the claims that are no longer current, whose results are dropped.
    """
    # Mostly it commits by itself: no job stays locked until this process is scheduled again.
    with single(engine) as connection:
        done = _complete(connection, results, may_end=False)
    left = [result for result in results if _key(result.claim) not in done]
    if left:
        with begin(engine) as connection:
            ending = _complete(connection, left, may_end=True)
            claims = [result.claim for result in left]
            last = {claim.job_id: claim for claim in claims if ending.get(_key(claim))}
            for claim in last.values():
                queue_finish(connection, claim.job_id, claim.kind, max_attempts)
        done |= ending
    return [result.claim for result in left if _key(result.claim) not in done]


def _complete(
    connection: Connection, results: Sequence[ChunkResult], *, may_end: bool
) -> dict[tuple[int, int], bool]:
    """Return the steps that are done, by ``_key``, and whether their job has all its chunks."""
    rows = connection.execute(
        _COMPLETE_CHUNKS,
        {
            "ids": [result.claim.step_id for result in results],
            "job_ids": [result.claim.job_id for result in results],
            "epochs": [result.claim.epoch for result in results],
            "outputs": [Jsonb(dict(result.output)) for result in results],
            "timings": [Jsonb(dict(result.timings)) for result in results],
            "audio_s": [result.audio_s for result in results],
            "most": MOST_PERCENT,
            "may_end": may_end,
        },
    ).all()
    done = {(row.id, row.epoch): row.complete for row in rows}
    for job_id in {each.claim.job_id for each in results if _key(each.claim) in done}:
        announce(connection, job_id)
    return done


def _key(claim: Claim) -> tuple[int, int]:
    return claim.step_id, claim.epoch


def complete_diarize(
    engine: Engine,
    claim: Claim,
    *,
    output: Mapping[str, Any],
    timings: Mapping[str, Any],
    max_attempts: int,
) -> None:
    """``diarize`` running -> done: what was heard of the span's speakers is stored.

    ``output`` has its size in bytes, the engine and the digest of its weights.
    """
    with fenced(engine, claim) as connection:
        finish_step(connection, claim, timings, output)
        queue_finish(connection, claim.job_id, claim.kind, max_attempts)


def complete_only_chunk(
    engine: Engine, result: ChunkResult, folded: Folded, *, listening: bool = False
) -> None:
    """``transcribe`` running -> done and job running -> succeeded, for a job's only chunk.

    With ``listening``, a ``listen`` step is queued.
    """
    with fenced(engine, result.claim) as connection:
        _succeed(connection, result.claim, folded, only=result)
        if listening:
            _queue_listen(connection, result.claim)


def complete_finish(
    engine: Engine,
    claim: Claim,
    folded: Folded,
    *,
    voiceprints: Voiceprints | None = None,
    listening: bool = False,
    shared: bool = True,
) -> None:
    """``finish`` running -> done and job running -> succeeded, with the transcript.

    With ``voiceprints``, it keeps how its speakers sound. With ``listening``, a ``listen`` step is
    queued. Without ``shared``, later equal jobs are done anew: what failed in this one may succeed
    then.
    """
    with fenced(engine, claim) as connection:
        _succeed(connection, claim, folded)
        if voiceprints is not None:
            connection.execute(
                text("UPDATE transcripts SET voiceprints = :voiceprints WHERE id = :id"),
                {"id": claim.job_id, "voiceprints": Jsonb(voiceprints.model_dump(mode="json"))},
            )
        if not shared:
            connection.execute(
                text("UPDATE jobs SET fingerprint = NULL WHERE id = :id"), {"id": claim.job_id}
            )
        if listening:
            _queue_listen(connection, claim)


def _queue_listen(connection: Connection, claim: Claim) -> None:
    queue = queue_of(StepKind.LISTEN, claim.options.model)
    new = [NewStep(0)]
    insert_steps(connection, claim.job_id, StepKind.LISTEN, queue, new, _LISTEN_ATTEMPTS)


def has_audio(engine: Engine, job_id: UUID) -> bool:
    """Whether a job is there and its file is kept."""
    with begin(engine) as connection:
        return (
            connection.execute(
                text("SELECT FROM jobs WHERE id = :id AND audio_deleted_at IS NULL"), {"id": job_id}
            ).one_or_none()
            is not None
        )


def complete_listen(
    engine: Engine, claim: Claim, *, n_bytes: int | None, timings: Mapping[str, Any]
) -> None:
    """``listen`` running -> done: the job has a listening copy, if it has its transcript still.

    ``n_bytes`` is the copy's size; None: there was no audio any more.
    """
    with fenced(engine, claim) as connection:
        finish_step(connection, claim, timings)
        if n_bytes is None:
            return
        connection.execute(
            text("""
                WITH kept AS (
                    UPDATE jobs SET listening_bytes = :n_bytes
                    WHERE id = :id AND transcript_id IS NOT NULL RETURNING id
                ), settled AS (
                    DELETE FROM removals WHERE prefix = :key AND EXISTS (SELECT FROM kept)
                )
                UPDATE removals SET due_at = clock_timestamp()
                WHERE prefix = :key AND NOT EXISTS (SELECT FROM kept)
            """),
            {"id": claim.job_id, "n_bytes": n_bytes, "key": listening_key(claim.job_id)},
        )


def _succeed(
    connection: Connection, claim: Claim, folded: Folded, *, only: ChunkResult | None = None
) -> None:
    """Step running -> done, and its job running -> succeeded with its transcript.

    The step is the job's ``finish`` or, with ``only``, its only chunk.
    Jobs that wait for this one succeed with it. Jobs with a reference are measured, unless that
    takes too long for a transaction (``measure_pending`` does it then).

    RTFx is audio seconds per wall second from the first claim to the stored transcript. A retried
    job has none, as an earlier run did part of its work.
    """
    header = _write_transcript(connection, claim, folded)
    metrics = dict(folded.metrics())
    if only is None:
        done = step_values(claim, metrics)
    else:
        done = step_values(claim, only.timings, only.output)
    job = connection.execute(
        _SUCCEED,
        done
        | {
            "id": claim.job_id,
            "n_chunks": 0 if only is None else 1,
            "audio_s": 0.0 if only is None else only.audio_s,
            "language": header.language,
            "probability": header.language_probability,
            "metrics": Jsonb(metrics),
            "manifest": folded.manifest().model_dump_json(),
        },
    ).one()
    if only is None or claim.audio is None:
        schedule_removal(connection, pcm_prefix(claim.job_id), late_writes=True)
    end_jobs(connection, [claim.job_id])
    copies = share_transcript(connection, claim.job_id) if job.shared else []
    if job.measured or copies:
        measure_at_once(connection, [claim.job_id, *copies])


STEP_DONE = f"""
    UPDATE steps
    SET {_DONE.format(output=":output", timings=":timings")},
        event_id = CASE kind WHEN 'transcribe' THEN nextval('event_ids') END
    WHERE id = :step_id
"""  # noqa: S608 - constants
"""Step running -> done, with ``step_values``; the caller has fenced the claim."""


def step_values(
    claim: Claim, timings: Mapping[str, Any], output: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the parameters of ``STEP_DONE``."""
    return {
        "step_id": claim.step_id,
        "output": None if output is None else Jsonb(dict(output)),
        "timings": Jsonb(dict(timings)),
    }


_SUCCEED = text(f"""
    WITH step AS ({STEP_DONE})
    UPDATE jobs SET state = 'succeeded', finished_at = clock_timestamp(),
                    transcript_id = :id, chunks_done = chunks_done + :n_chunks,
                    audio_done_s = audio_done_s + :audio_s,
                    detected_language = CASE WHEN options ->> 'language' IS NULL
                                             THEN :language END,
                    detected_probability = CASE WHEN options ->> 'language' IS NULL
                                                THEN CAST(:probability AS real) END,
                    metrics = metrics || :metrics || CASE run WHEN 1
                        THEN jsonb_build_object('rtfx', round((duration_s / extract(
                            epoch FROM clock_timestamp() - started_at
                        ))::numeric, 2))
                        ELSE '{{}}'
                    END,
                    manifest = CAST(:manifest AS json)
    WHERE id = :id
    RETURNING reference IS NOT NULL AS measured, EXISTS (
        SELECT FROM jobs AS copy WHERE copy.original_id = :id AND copy.state = 'queued'
    ) AS shared
""")  # noqa: S608 - constants


def _write_transcript(connection: Connection, claim: Claim, folded: Folded) -> TranscriptHeader:
    """Write segments as they come; the header is known once all of them have come.

    A transcript of one batch is written by one statement, header included.
    """
    remaining = iter(folded.segments)
    batch = list(islice(remaining, _SEGMENTS_AT_ONCE))
    if len(batch) < _SEGMENTS_AT_ONCE:
        header = folded.header()
        document = Jsonb(header.model_dump(mode="json"))
        connection.execute(_INSERT_TRANSCRIPT, _rows(claim, batch) | {"header": document})
        return header
    connection.execute(_INSERT_TRANSCRIPT, _rows(claim, batch) | {"header": Jsonb({})})
    while batch := list(islice(remaining, _SEGMENTS_AT_ONCE)):
        connection.execute(_INSERT_SEGMENTS, _rows(claim, batch))
    header = folded.header()
    connection.execute(
        text("UPDATE transcripts SET header = :header WHERE id = :id"),
        {"id": claim.job_id, "header": Jsonb(header.model_dump(mode="json"))},
    )
    return header


_WRITE_SEGMENTS = f"""
    new AS (
        SELECT CAST(:id AS uuid) AS id, (document ->> 'id')::int AS idx, document, terms
        FROM unnest(CAST(:documents AS jsonb[]), CAST(:terms AS text[]))
                 AS segment (document, terms)
    ), findable AS (
        INSERT INTO transcript_terms (tenant, transcript_id, idx, terms)
        SELECT jobs.tenant, new.id, idx, {WITH_TENANT.format(terms="terms", tenant="jobs.tenant")}
        FROM new JOIN jobs ON jobs.id = new.id WHERE terms <> ''
    )
    INSERT INTO transcript_segments (transcript_id, idx, document)
    SELECT id, idx, document FROM new
"""  # noqa: S608 - constants

_INSERT_SEGMENTS = text(f"WITH {_WRITE_SEGMENTS}")

_INSERT_TRANSCRIPT = text(f"""
    WITH transcript AS (
        INSERT INTO transcripts (id, tenant, header)
        SELECT id, tenant, CAST(:header AS jsonb) FROM jobs WHERE id = :id
    ), {_WRITE_SEGMENTS}
""")  # noqa: S608 - constants


def _rows(claim: Claim, batch: Sequence[Segment]) -> dict[str, Any]:
    return {
        "id": claim.job_id,
        "documents": [Jsonb(segment_document(segment)) for segment in batch],
        "terms": [segment_terms(segment.text) for segment in batch],
    }


def finish_step(
    connection: Connection,
    claim: Claim,
    timings: Mapping[str, Any],
    output: Mapping[str, Any] | None = None,
) -> None:
    """Step running -> done; the caller has fenced the claim, and does what follows from it."""
    connection.execute(text(STEP_DONE), step_values(claim, timings, output))
