"""The job store's writing side: the sole writer of job and step state.

Every function is one transaction and one named transition. Times are the database's. Rows are
locked in one order, job before step, so that transitions of one job queue up, never deadlock.

A worker's writes are fenced: they name the step and the epoch of the claim they belong to, and
change nothing (``LeaseLost``) once the step was claimed again, its lease was reaped or its job
ended.

All functions raise ``DatabaseUnavailable`` when Postgres cannot be reached; nothing was written
then, except that after its subclass ``CommitUncertain`` only Postgres knows. Every transition is
safe to find already made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, text

from shared.database import begin
from shared.errors import JobEnded, JobNotFound, LeaseLost, LonghandError
from shared.options import ResolvedOptions
from shared.tables import JobState, StepKind
from shared.transcript import Transcript

PREPARE_QUEUE = "prepare"
FINISH_QUEUE = "finish"


def model_queue(model: str) -> str:
    """Return the name of the queue that the workers of ``model`` consume."""
    return f"model.{model}"


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a job is made of; its source object must be stored already."""

    id: UUID
    tenant: str
    options: ResolvedOptions
    source_key: str
    source_name: str
    source_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a step, as long as (step_id, epoch) stays current."""

    step_id: int
    job_id: UUID
    kind: StepKind
    idx: int
    attempt: int
    max_attempts: int
    epoch: int
    owner: str
    input: Mapping[str, Any]
    model: str
    language: str | None
    vad: str
    source_key: str


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk of the plan: its number and the input of its step."""

    idx: int
    input: Mapping[str, int]


def create_job(engine: Engine, job: NewJob, *, max_attempts: int) -> None:
    """Nothing -> job queued, with its ``prepare`` step queued."""
    with begin(engine) as connection:
        connection.execute(
            text("""
                INSERT INTO jobs (id, tenant, state, model, language, vad,
                                  source_key, source_name, source_bytes, sha256)
                VALUES (:id, :tenant, 'queued', :model, :language, :vad,
                        :source_key, :source_name, :source_bytes, :sha256)
            """),
            {
                "id": job.id,
                "tenant": job.tenant,
                "model": job.options.model,
                "language": job.options.language,
                "vad": job.options.vad,
                "source_key": job.source_key,
                "source_name": job.source_name,
                "source_bytes": job.source_bytes,
                "sha256": job.sha256,
            },
        )
        _record(connection, job.id, "job.queued")
        _insert_steps(
            connection, job.id, StepKind.PREPARE, PREPARE_QUEUE, [NewChunk(0, {})], max_attempts
        )


def claim(engine: Engine, step_id: int, *, owner: str, lease_s: float) -> Claim | None:
    """Step queued -> running, if it is due and its job is active; job queued -> running.

    Returns None when there is nothing to claim: a duplicate message, a step not yet due, a job that
    ended. The caller then does nothing.
    """
    with begin(engine) as connection:
        row = (
            connection.execute(
                text("""
                    WITH job AS (
                        SELECT id, state, model, language, vad, source_key FROM jobs
                        WHERE id = (SELECT job_id FROM steps WHERE id = :step_id)
                          AND state IN ('queued', 'running')
                        FOR NO KEY UPDATE
                    )
                    UPDATE steps
                    SET state = 'running', attempt = attempt + 1, epoch = epoch + 1,
                        lease_owner = :owner, claimed_at = clock_timestamp(),
                        lease_until = clock_timestamp() + make_interval(secs => :lease_s)
                    FROM job
                    WHERE steps.id = :step_id AND steps.job_id = job.id
                      AND steps.state = 'queued' AND steps.run_at <= clock_timestamp()
                    RETURNING steps.id AS step_id, steps.job_id, steps.kind, steps.idx,
                              steps.attempt, steps.max_attempts, steps.epoch, steps.input,
                              job.state AS job_state, job.model, job.language, job.vad,
                              job.source_key
                """),
                {"step_id": step_id, "owner": owner, "lease_s": lease_s},
            )
            .mappings()
            .one_or_none()
        )
        if row is None:
            return None
        fields = dict(row)
        job_state = fields.pop("job_state")
        claimed = Claim(**{**fields, "kind": StepKind(fields["kind"]), "owner": owner})
        if job_state == "queued":
            connection.execute(
                text("""
                    UPDATE jobs SET state = 'running', started_at = clock_timestamp()
                    WHERE id = :id
                """),
                {"id": claimed.job_id},
            )
            _record(connection, claimed.job_id, "job.running")
        _record_step(connection, claimed, "step.claimed")
        return claimed


def renew(engine: Engine, held: Sequence[Claim], *, lease_s: float) -> set[tuple[int, int]]:
    """Running -> running with a later ``lease_until``.

    Returns (step id, epoch) of each claim that is still current. A step that another transaction
    has locked is left to the next heartbeat, so that it holds up no other lease.
    """
    with begin(engine) as connection:
        rows = connection.execute(
            text("""
                WITH held AS (
                    SELECT steps.id, steps.epoch
                    FROM unnest(CAST(:ids AS bigint[]), CAST(:epochs AS int[])) AS claim (id, epoch)
                    JOIN steps USING (id, epoch) JOIN jobs ON jobs.id = steps.job_id
                    WHERE steps.state = 'running' AND jobs.state = 'running'
                ), free AS (
                    SELECT steps.id FROM steps JOIN held USING (id, epoch)
                    WHERE steps.state = 'running'
                    FOR NO KEY UPDATE OF steps SKIP LOCKED
                ), renewed AS (
                    UPDATE steps
                    SET lease_until = clock_timestamp() + make_interval(secs => :lease_s)
                    FROM free WHERE steps.id = free.id
                )
                SELECT id, epoch FROM held
            """),
            {
                "ids": [claim.step_id for claim in held],
                "epochs": [claim.epoch for claim in held],
                "lease_s": lease_s,
            },
        )
        return {(row.id, row.epoch) for row in rows}


def add_chunks(
    engine: Engine, claim: Claim, chunks: Sequence[NewChunk], *, max_attempts: int
) -> None:
    """Nothing -> ``transcribe`` steps queued, while ``prepare`` runs.

    A chunk that an earlier attempt planned stays as it is, done or not.

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        _fence(connection, claim)
        inserted = _insert_steps(
            connection,
            claim.job_id,
            StepKind.TRANSCRIBE,
            model_queue(claim.model),
            chunks,
            max_attempts,
        )
        connection.execute(
            text("UPDATE jobs SET chunks_total = chunks_total + :n WHERE id = :id"),
            {"n": inserted, "id": claim.job_id},
        )


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
        _fence(connection, claim)
        _finish_step(connection, claim, output=None, timings=metrics)
        connection.execute(
            text("""
                UPDATE jobs SET plan_complete = true, duration_s = :duration_s,
                                metrics = metrics || :metrics
                WHERE id = :id
            """),
            {"id": claim.job_id, "duration_s": duration_s, "metrics": Jsonb(dict(metrics))},
        )
        _add_finish_when_complete(connection, claim.job_id, max_attempts)


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
        _fence(connection, claim)
        _finish_step(connection, claim, output=output, timings=timings)
        connection.execute(
            text("""
                UPDATE jobs
                SET chunks_done = chunks_done + 1, audio_done_s = audio_done_s + :audio_s
                WHERE id = :id
            """),
            {"id": claim.job_id, "audio_s": audio_s},
        )
        _add_finish_when_complete(connection, claim.job_id, max_attempts)


def complete_finish(
    engine: Engine,
    claim: Claim,
    *,
    transcript: Transcript,
    metrics: Mapping[str, Any],
    manifest: Mapping[str, Any],
) -> None:
    """``finish`` running -> done and job running -> succeeded, with the transcript.

    RTFx is audio seconds per wall second from the first claim to the stored transcript.

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        _fence(connection, claim)
        _finish_step(connection, claim, output=None, timings=metrics)
        connection.execute(
            text("INSERT INTO transcripts (job_id, document) VALUES (:id, :document)"),
            {"id": claim.job_id, "document": Jsonb(transcript.model_dump(mode="json"))},
        )
        connection.execute(
            text("""
                UPDATE jobs SET state = 'succeeded', finished_at = clock_timestamp(),
                                metrics = metrics || :metrics || jsonb_build_object(
                                    'rtfx', round((duration_s / extract(
                                        epoch FROM clock_timestamp() - started_at
                                    ))::numeric, 2)
                                ),
                                manifest = :manifest
                WHERE id = :id
            """),
            {
                "id": claim.job_id,
                "metrics": Jsonb(dict(metrics)),
                "manifest": Jsonb(dict(manifest)),
            },
        )
        _record(connection, claim.job_id, "job.succeeded")


def fail(engine: Engine, claim: Claim, error: LonghandError) -> None:
    """Step running -> failed and job running -> failed: trying again cannot help.

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        _fence(connection, claim)
        _fail_step(connection, claim, error.code, str(error))


def retry(engine: Engine, claim: Claim, error: LonghandError, *, base_s: float) -> None:
    """Step running -> queued after a full-jitter backoff, or -> failed when attempts are exhausted.

    The delay is uniform in [0, base_s * 2**(attempt - 1)], the "full jitter" of Marc Brooker's
    "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015).

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        _fence(connection, claim)
        if claim.attempt >= claim.max_attempts:
            detail = f"{error} (after {claim.attempt} attempts)"
            _fail_step(connection, claim, error.code, detail)
            return
        _requeue(connection, claim.step_id, delay_s=base_s * 2 ** (claim.attempt - 1))
        _record_step(connection, claim, "step.retried", f"{error.code}: {error}")


def release(engine: Engine, claim: Claim) -> None:
    """Step running -> queued at once, as if never claimed: an orderly stop is no failed attempt.

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        _fence(connection, claim)
        _requeue(connection, claim.step_id, delay_s=0)
        connection.execute(
            text("UPDATE steps SET attempt = attempt - 1 WHERE id = :id"), {"id": claim.step_id}
        )
        _record_step(connection, claim, "step.released")


def cancel_job(engine: Engine, tenant: str, job_id: UUID) -> None:
    """Job queued or running -> canceled; no step of it is claimed or completed from now on.

    Its running steps' workers find their leases void and stop within a chunk. To cancel a canceled
    job changes nothing.

    Raises:
        JobNotFound: there is no such job for this tenant.
        JobEnded: it has succeeded or failed already.
    """
    with begin(engine) as connection:
        state = connection.execute(
            text("""
                SELECT state FROM jobs WHERE id = :id AND tenant = :tenant FOR NO KEY UPDATE
            """),
            {"id": job_id, "tenant": tenant},
        ).scalar_one_or_none()
        if state is None:
            raise JobNotFound(f"there is no job {job_id}")
        if state in (JobState.SUCCEEDED, JobState.FAILED):
            raise JobEnded(f"the job has {state} already")
        if state == JobState.CANCELED:
            return
        connection.execute(
            text("""
                UPDATE jobs SET state = 'canceled', finished_at = clock_timestamp() WHERE id = :id
            """),
            {"id": job_id},
        )
        _record(connection, job_id, "job.canceled")


def reap(engine: Engine, *, limit: int = 500) -> int:
    """Running with an expired lease -> queued, or -> failed when that was the last attempt.

    Returns the number of steps reaped. Each is its own transaction, and a job whose row is locked
    is left to the next sweep, so that none holds up the rest.
    """
    with begin(engine) as connection:
        expired = [
            Claim(**{**row, "kind": StepKind(row["kind"])})
            for row in connection.execute(
                text("""
                    SELECT steps.id AS step_id, job_id, kind, idx, attempt, max_attempts, epoch,
                           lease_owner AS owner, input, model, language, vad, source_key
                    FROM steps JOIN jobs ON jobs.id = steps.job_id
                    WHERE steps.state = 'running' AND jobs.state = 'running'
                      AND lease_until < clock_timestamp()
                    ORDER BY lease_until LIMIT :limit
                """),
                {"limit": limit},
            ).mappings()
        ]
    reaped = 0
    for claim in expired:
        try:
            with begin(engine) as connection:
                _fence(connection, claim, to_reap=True)
                if claim.attempt >= claim.max_attempts:
                    detail = f"the worker died or hung at each of {claim.attempt} attempts"
                    _fail_step(connection, claim, "poisonous_input", detail)
                else:
                    _requeue(connection, claim.step_id, delay_s=0)
                    _record_step(connection, claim, "step.reaped")
        except LeaseLost:
            continue  # since we looked: completed, renewed by a late heartbeat, or locked
        reaped += 1
    return reaped


def _fence(connection: Connection, claim: Claim, *, to_reap: bool = False) -> None:
    """Lock the job and the step, job first, if the claim is still current.

    The reaper wants it expired too, and does not wait for the lock.
    """
    row = connection.execute(
        text(f"""
            WITH job AS (
                SELECT id FROM jobs WHERE id = :job_id AND state = 'running'
                FOR NO KEY UPDATE {"SKIP LOCKED" if to_reap else ""}
            )
            SELECT steps.id FROM job JOIN steps ON steps.job_id = job.id
            WHERE steps.id = :step_id AND steps.epoch = :epoch AND steps.state = 'running'
              {"AND steps.lease_until < clock_timestamp()" if to_reap else ""}
            FOR NO KEY UPDATE OF steps
        """),  # noqa: S608 - the variable parts are constants
        {"job_id": claim.job_id, "step_id": claim.step_id, "epoch": claim.epoch},
    ).one_or_none()
    if row is None:
        raise LeaseLost(f"step {claim.step_id} is no longer held at epoch {claim.epoch}")


def _insert_steps(
    connection: Connection,
    job_id: UUID,
    kind: StepKind,
    queue: str,
    new: Sequence[NewChunk],
    max_attempts: int,
) -> int:
    """Nothing -> queued; returns how many did not exist yet."""
    if not new:
        return 0
    rows = connection.execute(
        text("""
            INSERT INTO steps (job_id, kind, idx, queue, max_attempts, input)
            SELECT :job_id, :kind, plan.idx, :queue, :max_attempts, plan.input
            FROM unnest(CAST(:idxs AS int[]), CAST(:inputs AS jsonb[])) AS plan (idx, input)
            ON CONFLICT (job_id, kind, idx) DO NOTHING
            RETURNING id
        """),
        {
            "job_id": job_id,
            "kind": kind,
            "queue": queue,
            "max_attempts": max_attempts,
            "idxs": [chunk.idx for chunk in new],
            "inputs": [Jsonb(dict(chunk.input)) for chunk in new],
        },
    ).all()
    for row in rows:
        _record(connection, job_id, "step.queued", step_id=row.id)
    return len(rows)


def _add_finish_when_complete(connection: Connection, job_id: UUID, max_attempts: int) -> None:
    """Queue ``finish`` if plan and chunks are complete; the caller has locked the job row."""
    complete = connection.execute(
        text("SELECT plan_complete AND chunks_done = chunks_total FROM jobs WHERE id = :id"),
        {"id": job_id},
    ).scalar_one()
    if complete:
        _insert_steps(
            connection, job_id, StepKind.FINISH, FINISH_QUEUE, [NewChunk(0, {})], max_attempts
        )


def _finish_step(
    connection: Connection,
    claim: Claim,
    *,
    output: Mapping[str, Any] | None,
    timings: Mapping[str, Any],
) -> None:
    connection.execute(
        text("""
            UPDATE steps SET state = 'done', output = :output, timings = :timings,
                             lease_until = NULL, finished_at = clock_timestamp()
            WHERE id = :id
        """),
        {
            "id": claim.step_id,
            "output": None if output is None else Jsonb(dict(output)),
            "timings": Jsonb(dict(timings)),
        },
    )
    _record_step(connection, claim, "step.done")


def _fail_step(connection: Connection, claim: Claim, code: str, detail: str) -> None:
    connection.execute(
        text("""
            UPDATE steps SET state = 'failed', error_code = :code, error_detail = :detail,
                             lease_until = NULL, finished_at = clock_timestamp()
            WHERE id = :id
        """),
        {"id": claim.step_id, "code": code, "detail": detail},
    )
    _record_step(connection, claim, "step.failed", f"{code}: {detail}")
    connection.execute(
        text("""
            UPDATE jobs SET state = 'failed', error_code = :code, error_detail = :detail,
                            finished_at = clock_timestamp()
            WHERE id = :id
        """),
        {"id": claim.job_id, "code": code, "detail": detail},
    )
    _record(connection, claim.job_id, "job.failed", detail=f"{code}: {detail}")


def _requeue(connection: Connection, step_id: int, *, delay_s: float) -> None:
    connection.execute(
        text("""
            UPDATE steps
            SET state = 'queued', lease_owner = NULL, lease_until = NULL, dispatched_at = NULL,
                run_at = clock_timestamp() + make_interval(secs => :delay_s * random())
            WHERE id = :id
        """),
        {"id": step_id, "delay_s": delay_s},
    )


def _record_step(
    connection: Connection, claim: Claim, event: str, detail: str | None = None
) -> None:
    _record(
        connection,
        claim.job_id,
        event,
        step_id=claim.step_id,
        attempt=claim.attempt,
        epoch=claim.epoch,
        worker=claim.owner,
        detail=detail,
    )


def _record(
    connection: Connection,
    job_id: UUID,
    event: str,
    *,
    step_id: int | None = None,
    attempt: int | None = None,
    epoch: int | None = None,
    worker: str | None = None,
    detail: str | None = None,
) -> None:
    connection.execute(
        text("""
            INSERT INTO job_events (job_id, step_id, event, attempt, epoch, worker, detail)
            VALUES (:job_id, :step_id, :event, :attempt, :epoch, :worker, :detail)
        """),
        {
            "job_id": job_id,
            "step_id": step_id,
            "event": event,
            "attempt": attempt,
            "epoch": epoch,
            "worker": worker,
            "detail": detail,
        },
    )
