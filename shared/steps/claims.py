"""Claims: the right to work on a step, how it is got, kept, checked and given up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.database import begin
from shared.errors import LeaseLost, LonghandError
from shared.options import ResolvedOptions
from shared.steps.audit import record
from shared.tables import StepKind


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
    options: ResolvedOptions
    detected_language: str | None
    source_key: str

    @property
    def language(self) -> str | None:
        """The one asked for, else the one detected for the whole job."""
        return self.options.language or self.detected_language


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
                        SELECT id, state, options, detected_language, source_key FROM jobs
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
                              job.state AS job_state, job.options, job.detected_language,
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
        claimed = claim_of(fields | {"owner": owner})
        if job_state == "queued":
            connection.execute(
                text("""
                    UPDATE jobs SET state = 'running', started_at = clock_timestamp()
                    WHERE id = :id
                """),
                {"id": claimed.job_id},
            )
            record(connection, claimed.job_id, "job.running")
        record_step(connection, claimed, "step.claimed")
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


def release(engine: Engine, claim: Claim) -> None:
    """Step running -> queued at once, as if never claimed: an orderly stop is no failed attempt.

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        fence(connection, claim)
        _requeue(connection, claim.step_id, delay_s=0)
        connection.execute(
            text("UPDATE steps SET attempt = attempt - 1 WHERE id = :id"), {"id": claim.step_id}
        )
        record_step(connection, claim, "step.released")


def retry(engine: Engine, claim: Claim, error: LonghandError, *, base_s: float) -> None:
    """Step running -> queued after a full-jitter backoff, or -> failed when attempts are exhausted.

    The delay is uniform in [0, base_s * 2**(attempt - 1)], the "full jitter" of Marc Brooker's
    "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015).

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        fence(connection, claim)
        if claim.attempt >= claim.max_attempts:
            detail = f"{error} (after {claim.attempt} attempts)"
            _fail_step(connection, claim, error.code, detail)
            return
        _requeue(connection, claim.step_id, delay_s=base_s * 2 ** (claim.attempt - 1))
        record_step(connection, claim, "step.retried", f"{error.code}: {error}")


def fail(engine: Engine, claim: Claim, error: LonghandError) -> None:
    """Step running -> failed and job running -> failed: trying again cannot help.

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        fence(connection, claim)
        _fail_step(connection, claim, error.code, str(error))


def reap(engine: Engine, *, limit: int = 500) -> int:
    """Running with an expired lease -> queued, or -> failed when that was the last attempt.

    Returns the number of steps reaped. Each is its own transaction, and a job whose row is locked
    is left to the next sweep, so that none holds up the rest.
    """
    with begin(engine) as connection:
        expired = [
            claim_of({**row})
            for row in connection.execute(
                text("""
                    SELECT steps.id AS step_id, job_id, kind, idx, attempt, max_attempts, epoch,
                           lease_owner AS owner, input, options, detected_language, source_key
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
                fence(connection, claim, to_reap=True)
                if claim.attempt >= claim.max_attempts:
                    detail = f"the worker died or hung at each of {claim.attempt} attempts"
                    _fail_step(connection, claim, "poisonous_input", detail)
                else:
                    _requeue(connection, claim.step_id, delay_s=0)
                    record_step(connection, claim, "step.reaped")
        except LeaseLost:
            continue  # since we looked: completed, renewed by a late heartbeat, or locked
        reaped += 1
    return reaped


def fence(connection: Connection, claim: Claim, *, to_reap: bool = False) -> None:
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


def record_step(
    connection: Connection, claim: Claim, event: str, detail: str | None = None
) -> None:
    record(
        connection,
        claim.job_id,
        event,
        step_id=claim.step_id,
        attempt=claim.attempt,
        epoch=claim.epoch,
        worker=claim.owner,
        detail=detail,
    )


def claim_of(row: Mapping[str, Any]) -> Claim:
    """Turn a row of step and job into the claim on it."""
    return Claim(
        **{
            **row,
            "kind": StepKind(row["kind"]),
            "options": ResolvedOptions.model_validate(row["options"]),
        }
    )


def _fail_step(connection: Connection, claim: Claim, code: str, detail: str) -> None:
    connection.execute(
        text("""
            UPDATE steps SET state = 'failed', error_code = :code, error_detail = :detail,
                             lease_until = NULL, finished_at = clock_timestamp()
            WHERE id = :id
        """),
        {"id": claim.step_id, "code": code, "detail": detail},
    )
    record_step(connection, claim, "step.failed", f"{code}: {detail}")
    # Jobs that wait for this one have the same audio and options: they fail as it does.
    failed = connection.execute(
        text("""
            UPDATE jobs SET state = 'failed', error_code = :code, error_detail = :detail,
                            finished_at = clock_timestamp()
            WHERE id = :id OR original_id = :id AND state = 'queued'
            RETURNING id
        """),
        {"id": claim.job_id, "code": code, "detail": detail},
    ).scalars()
    for job_id in failed.all():
        record(connection, job_id, "job.failed", detail=f"{code}: {detail}")


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
