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
from shared.steps.ending import end_jobs, fail_delivery
from shared.tables import STEP_MAY_RUN, StepKind


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

    A delivery is claimed whatever its job's state, and leaves it as it is.

    Returns None when there is nothing to claim: a duplicate message, a step not yet due, a job that
    ended. The caller then does nothing.
    """
    with begin(engine) as connection:
        row = (
            connection.execute(
                text(f"""
                    WITH job AS (
                        SELECT jobs.id, jobs.state, options, detected_language, source_key,
                               transcribing_since
                        FROM jobs JOIN steps ON steps.job_id = jobs.id
                        WHERE steps.id = :step_id AND {STEP_MAY_RUN}
                        FOR NO KEY UPDATE OF jobs
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
                              job.source_key, job.transcribing_since
                """),  # noqa: S608 - the variable part is a constant
                {"step_id": step_id, "owner": owner, "lease_s": lease_s},
            )
            .mappings()
            .one_or_none()
        )
        if row is None:
            return None
        fields = dict(row)
        job_state = fields.pop("job_state")
        transcribing_since = fields.pop("transcribing_since")
        claimed = claim_of(fields | {"owner": owner})
        if job_state == "queued" and claimed.kind != StepKind.DELIVER:
            connection.execute(
                text("""
                    UPDATE jobs SET state = 'running', started_at = clock_timestamp()
                    WHERE id = :id
                """),
                {"id": claimed.job_id},
            )
            record(connection, claimed.job_id, "job.running")
        if claimed.kind == StepKind.TRANSCRIBE and transcribing_since is None:
            # From here on speed is measured; what an earlier run has left does not count.
            connection.execute(
                text("""
                    UPDATE jobs SET transcribing_since = clock_timestamp(),
                                    audio_kept_s = audio_done_s
                    WHERE id = :id
                """),
                {"id": claimed.job_id},
            )
        record_step(connection, claimed, "step.claimed")
        return claimed


def renew(engine: Engine, held: Sequence[Claim], *, lease_s: float) -> set[tuple[int, int]]:
    """Running -> running with a later ``lease_until``.

    Returns (step id, epoch) of each claim that is still current. A step that another transaction
    has locked is left to the next heartbeat, so that it holds up no other lease.
    """
    with begin(engine) as connection:
        rows = connection.execute(
            text(f"""
                WITH held AS (
                    SELECT steps.id, steps.epoch
                    FROM unnest(CAST(:ids AS bigint[]), CAST(:epochs AS int[])) AS claim (id, epoch)
                    JOIN steps USING (id, epoch) JOIN jobs ON jobs.id = steps.job_id
                    WHERE steps.state = 'running' AND {STEP_MAY_RUN}
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
            """),  # noqa: S608 - the variable part is a constant
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
        _give_back(connection, claim)


def retry(engine: Engine, claim: Claim, error: LonghandError, *, base_s: float) -> None:
    """Step running -> queued after a backoff, or -> failed when attempts are exhausted.

    The delay is uniform in the upper half of [0, base_s * 2**(attempt - 1)], the "equal jitter" of
    Marc Brooker's "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015). With his "full
    jitter" all attempts may fall into an outage of a few seconds; so it takes one of half a minute
    (5 attempts from 4 s on) to fail a job.

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        fence(connection, claim)
        if claim.attempt >= claim.max_attempts:
            detail = f"{error} (after {claim.attempt} attempts)"
            fail_step(connection, claim, error.code, detail)
            return
        longest_s = base_s * 2 ** (claim.attempt - 1)
        requeue(connection, claim.step_id, least_s=longest_s / 2, most_s=longest_s)
        record_step(connection, claim, "step.retried", f"{error.code}: {error}")


def fail(engine: Engine, claim: Claim, error: LonghandError) -> None:
    """Step running -> failed and job running -> failed: trying again cannot help.

    Of a delivery: step running -> failed, delivery pending -> failed.

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        fence(connection, claim)
        fail_step(connection, claim, error.code, str(error))


def reap(engine: Engine, *, limit: int = 500) -> int:
    """Running with an expired lease -> queued, or -> failed when that was the last attempt.

    Where the worker had said which step it was trying alone when it died, the others that it held
    have lost no attempt: they are not to blame.

    Returns the number of steps reaped. Each is its own transaction, and a job whose row is locked
    is left to the next sweep, so that none holds up the rest.
    """
    with begin(engine) as connection:
        expired = [
            {**row}
            for row in connection.execute(
                text(f"""
                    SELECT steps.id AS step_id, job_id, kind, idx, attempt, max_attempts, epoch,
                           lease_owner AS owner, input, options, detected_language, source_key,
                           suspect_step
                    FROM steps JOIN jobs ON jobs.id = steps.job_id
                    LEFT JOIN workers ON workers.id = lease_owner
                    WHERE steps.state = 'running' AND {STEP_MAY_RUN}
                      AND lease_until < clock_timestamp()
                    ORDER BY lease_until LIMIT :limit
                """),  # noqa: S608 - the variable part is a constant
                {"limit": limit},
            ).mappings()
        ]
    reaped = 0
    for row in expired:
        suspect = row.pop("suspect_step")
        claim = claim_of(row)
        try:
            with begin(engine) as connection:
                fence(connection, claim, to_reap=True)
                if suspect not in (None, claim.step_id):
                    _give_back(connection, claim, f"the worker died of step {suspect}")
                elif claim.attempt >= claim.max_attempts:
                    detail = f"the worker died or hung at each of {claim.attempt} attempts"
                    fail_step(connection, claim, "poisonous_input", detail)
                else:
                    requeue(connection, claim.step_id)
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
                SELECT jobs.id FROM jobs JOIN steps ON steps.job_id = jobs.id
                WHERE jobs.id = :job_id AND steps.id = :step_id AND {STEP_MAY_RUN}
                FOR NO KEY UPDATE OF jobs {"SKIP LOCKED" if to_reap else ""}
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


def fail_step(connection: Connection, claim: Claim, code: str, detail: str) -> None:
    """Step running -> failed, with what follows from it; the caller has fenced the claim."""
    connection.execute(
        text("""
            UPDATE steps SET state = 'failed', error_code = :code, error_detail = :detail,
                             lease_until = NULL, finished_at = clock_timestamp()
            WHERE id = :id
        """),
        {"id": claim.step_id, "code": code, "detail": detail},
    )
    record_step(connection, claim, "step.failed", f"{code}: {detail}")
    if claim.kind == StepKind.DELIVER:
        fail_delivery(connection, claim.input["delivery_id"], detail)
        return
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
    end_jobs(connection, failed.all(), f"{code}: {detail}")


def _give_back(connection: Connection, claim: Claim, detail: str | None = None) -> None:
    """Step running -> queued, as if never claimed; the caller has fenced the claim."""
    requeue(connection, claim.step_id)
    connection.execute(
        text("UPDATE steps SET attempt = attempt - 1 WHERE id = :id"), {"id": claim.step_id}
    )
    record_step(connection, claim, "step.released", detail)


def requeue(
    connection: Connection, step_id: int, *, least_s: float = 0.0, most_s: float = 0.0
) -> None:
    """Step running -> queued, due after a random delay between the two; its caller fenced it."""
    connection.execute(
        text("""
            UPDATE steps
            SET state = 'queued', lease_owner = NULL, lease_until = NULL, dispatched_at = NULL,
                run_at = clock_timestamp()
                         + make_interval(secs => :least_s + (:most_s - :least_s) * random())
            WHERE id = :id
        """),
        {"id": step_id, "least_s": least_s, "most_s": most_s},
    )
