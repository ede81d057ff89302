"""Claims: the right to work on a step, how it is got, kept and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.infra.errors import LeaseLost
from shared.models.options import ResolvedOptions
from shared.store.audit import record
from shared.store.states import STEP_MAY_RUN, StepKind


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a step, as long as (step_id, epoch) stays current."""

    step_id: int
    job_id: UUID
    kind: StepKind
    idx: int
    attempt: int
    max_attempts: int
    outages: int
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
                        SELECT jobs.id, jobs.state, jobs.priority, options, detected_language,
                               source_key, transcribing_since
                        FROM jobs JOIN steps ON steps.job_id = jobs.id
                        WHERE steps.id = :step_id AND {STEP_MAY_RUN}
                        FOR NO KEY UPDATE OF jobs
                    )
                    UPDATE steps
                    SET state = 'running', attempt = attempt + 1, epoch = epoch + 1,
                        rank = -job.priority,
                        lease_owner = :owner, claimed_at = clock_timestamp(),
                        lease_until = clock_timestamp() + make_interval(secs => :lease_s)
                    FROM job
                    WHERE steps.id = :step_id AND steps.job_id = job.id
                      AND steps.state = 'queued' AND steps.run_at <= clock_timestamp()
                    RETURNING steps.id AS step_id, steps.job_id, steps.kind, steps.idx,
                              steps.attempt, steps.max_attempts, steps.outages, steps.epoch,
                              steps.input, job.state AS job_state, job.options,
                              job.detected_language, job.source_key, job.transcribing_since
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
