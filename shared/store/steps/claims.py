"""Claims: the right to work on a step, how it is got, kept and checked."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin, single
from shared.infra.errors import DatabaseUnavailable, LeaseLost
from shared.models.options import ResolvedOptions
from shared.store.events import record_step_event
from shared.store.news import announce
from shared.store.queues import DELIVER_QUEUE, LARGE_QUEUE
from shared.store.states import StepKind
from shared.store.steps.fair_order import take_next

log = logging.getLogger(__name__)

_LIMITED_QUEUES = (DELIVER_QUEUE, LARGE_QUEUE)
"""Of these only so many steps run at once. One that ends makes room for what was kept back."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a step, as long as (step_id, epoch) stays current."""

    step_id: int
    job_id: UUID
    kind: StepKind
    idx: int
    queue: str
    attempt: int
    max_attempts: int
    outages: int
    epoch: int
    owner: str
    input: Mapping[str, Any]
    audio: bytes | None
    """Of a short file's chunk, its samples as s16le."""
    bug: str | None
    """Fingerprint of the unexpected error that ended the last attempt."""
    options: ResolvedOptions
    detected_language: str | None
    detected_probability: float | None
    source_key: str
    source_bytes: int
    duration_s: float | None
    """Of the decoded audio, once the job is prepared."""
    metrics: Mapping[str, Any]
    """Of the job, so far."""
    only_chunk: bool
    """Whether the job has no chunk but this one, and no more are planned."""

    @property
    def language(self) -> str | None:
        """The one asked for, else the one detected for the whole job."""
        return self.options.language or self.detected_language


@dataclass(frozen=True, slots=True)
class Taken:
    """What a claim has found."""

    claims: Sequence[Claim]
    more: bool
    """Whether to claim again once these are done: more of the queue was due, or was kept back by a
    limit. Without claims: others are just at all that is due."""


def claim_next(engine: Engine, queue: str, *, owner: str, lease_s: float, limit: int = 1) -> Taken:
    """Steps queued -> running: the fairest that are due in a queue; their jobs -> running.

    Tenants take turns. Within a tenant what has lost its worker goes first, then priority decides,
    then each job's own turn (a short job does not wait for a long one's chunks), then age. Of
    deliveries the tenant and the endpoint with the fewest under way come first, and an endpoint has
    at most ``LANE_LIMIT``. Of large files at least one is prepared at a time, and as many as leave
    a slot of the ready workers to others.

    A claim waits for nobody. Where others are just at all steps of the tenants whose turn it is,
    it looks at the next tenants.
    """
    passed_by: list[str] = []
    most_found = 0
    while True:
        # The number of large files is counted under a lock; all else is one statement.
        with (begin if queue == LARGE_QUEUE else single)(engine) as connection:
            rows = take_next(
                connection, queue, passed_by, owner=owner, lease_s=lease_s, limit=limit
            )
        claims = [claim_of(dict(row._mapping)) for row in rows if row.step_id is not None]
        most_found = max(most_found, rows[0].found if rows else 0)
        if claims or not rows or not rows[0].tenants:
            break
        passed_by += rows[0].tenants
    started = [
        row.job_id for row in rows if row.job_state == "queued" and row.kind != StepKind.DELIVER
    ]
    if started:
        try:
            _start(engine, started)
        except DatabaseUnavailable as error:
            log.warning("%s: jobs are said to run with their next claim", error)
    kept_back = bool(claims) and queue in _LIMITED_QUEUES
    return Taken(claims, more=kept_back or most_found > len(claims))


def _start(engine: Engine, job_ids: Sequence[UUID]) -> None:
    """Jobs queued -> running.

    In a transaction of its own: a claim holds no lock on a job, so claims and completions of one
    job do not wait for each other.
    """
    with single(engine) as connection:
        connection.execute(
            text("""
                WITH waiting AS (
                    SELECT id FROM jobs WHERE id = ANY (:ids) AND state = 'queued'
                      AND EXISTS (SELECT FROM steps WHERE job_id = jobs.id AND state = 'running')
                    ORDER BY id FOR NO KEY UPDATE
                ), started AS (
                    UPDATE jobs SET state = 'running', started_at = clock_timestamp(),
                                    last_event = nextval('event_ids')
                    FROM waiting WHERE jobs.id = waiting.id
                    RETURNING jobs.id, last_event
                )
                INSERT INTO job_events (id, job_id, event)
                SELECT last_event, id, 'job.running' FROM started
            """),
            {"ids": list(job_ids)},
        )
        for job_id in job_ids:
            announce(connection, job_id)


def renew(engine: Engine, held: Sequence[Claim], *, lease_s: float) -> set[tuple[int, int]]:
    """Running -> running with a later ``lease_until``.

    Returns (step id, epoch) of each claim that is still current. A step that another transaction
    has locked is left to the next heartbeat, so that it holds up no other lease.
    """
    with single(engine) as connection:
        rows = connection.execute(
            text("""
                WITH held AS (
                    SELECT steps.id, steps.epoch
                    FROM unnest(CAST(:ids AS bigint[]), CAST(:epochs AS int[])) AS claim (id, epoch)
                    JOIN steps USING (id, epoch)
                    WHERE steps.state = 'running'
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


def expire_leases(engine: Engine, owners: str) -> int:
    """Running -> running with a lease that is over: the owners so named have died.

    The next sweep reaps the steps. ``owners`` is what their names begin with. Returns how many
    leases that were.
    """
    with single(engine) as connection:
        return connection.execute(
            text("""
                UPDATE steps SET lease_until = '-infinity'
                WHERE state = 'running' AND starts_with(lease_owner, :owners)
            """),
            {"owners": owners},
        ).rowcount


def fence(connection: Connection, claim: Claim, *, to_reap: bool = False) -> None:
    """Lock the job and the step, job first, if the claim is still current.

    The reaper wants it expired too, and does not wait for the lock.

    Raises:
        LeaseLost: it is not.
    """
    row = connection.execute(
        text(f"""
            WITH job AS (
                SELECT jobs.id FROM jobs JOIN steps ON steps.job_id = jobs.id
                WHERE jobs.id = :job_id AND steps.id = :step_id AND steps.state = 'running'
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
        raise lease_lost(claim)


def lease_lost(claim: Claim) -> LeaseLost:
    """Return the error of a claim that is not current any more."""
    return LeaseLost(f"step {claim.step_id} is no longer held at epoch {claim.epoch}")


def record_step(
    connection: Connection, claim: Claim, event: str, detail: str | None = None
) -> None:
    """Write what became of a claim to the audit trail."""
    record_step_event(
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
    """Turn a row of ``COLUMNS`` into the claim on it."""
    return Claim(
        **{
            **{name: row[name] for name in Claim.__slots__},
            "kind": StepKind(row["kind"]),
            "options": ResolvedOptions.model_validate(row["options"]),
        }
    )
