"""Claims: the right to work on a step, how it is got, kept and checked."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, text

from shared.infra.database import begin
from shared.infra.errors import DatabaseUnavailable, LeaseLost
from shared.models.options import ResolvedOptions
from shared.store.events import record_step_event
from shared.store.queues import DELIVER_QUEUE, LARGE_QUEUE
from shared.store.states import StepKind

log = logging.getLogger(__name__)

LANE_LIMIT = 4
"""Running steps of one lane: a quarter of what a delivery worker does at once, so that an endpoint
that hangs does not hold up the others."""

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


COLUMNS = """
    steps.id AS step_id, steps.job_id, steps.kind, steps.idx, steps.queue, steps.attempt,
    steps.max_attempts, steps.outages, steps.epoch, steps.lease_owner AS owner, steps.input,
    steps.audio, steps.bug, jobs.options, jobs.detected_language, jobs.detected_probability,
    jobs.source_key, jobs.source_bytes, jobs.duration_s, jobs.metrics,
    steps.kind = 'transcribe' AND jobs.plan_complete AND jobs.chunks_total = 1 AS only_chunk
"""
"""What ``claim_of`` needs of a step and its job, in SQL."""

_MARK = """
    state = 'running', attempt = attempt + 1, epoch = epoch + 1, lease_owner = :owner,
    claimed_at = clock_timestamp(),
    lease_until = clock_timestamp() + make_interval(secs => :lease_s)
"""

# The order is decided in two looks. ``due`` and ``turn`` find whose turn it is: the tenants of the
# steps with the lowest tenant turns. ``picked`` then takes each tenant's own first steps, by rank,
# by the turns of its jobs, by age. Where these are not the steps with the low turns, ``handed_on``
# gives their turns to the ones that were passed over, so that the tenant has used up its turns and
# no others; while only one tenant waits nobody needs that. Both looks are walks along an index
# which end after :limit steps, however many wait.
#
# A step that another transaction has locked is skipped. A tenant all of whose due steps are locked
# is passed by in the next look (:passed_by). statement_timestamp() is constant within the
# statement, so the indexes can be used (clock_timestamp() is volatile).
_CLAIM = text(f"""
    WITH due AS MATERIALIZED (
        SELECT id, tenant, tenant_turn FROM steps
        WHERE queue = :queue AND kind <> 'deliver' AND state = 'queued'
          AND run_at <= statement_timestamp() AND tenant <> ALL (CAST(:passed_by AS text[]))
        ORDER BY tenant_turn, id LIMIT :limit + 1
    ), turn AS MATERIALIZED (
        SELECT id, tenant, tenant_turn FROM due ORDER BY tenant_turn, id LIMIT :limit
    ), share AS (
        SELECT tenant, count(*) AS steps FROM turn GROUP BY tenant
    ), picked AS MATERIALIZED (
        SELECT step.* FROM share CROSS JOIN LATERAL (
            SELECT id, tenant, tenant_turn FROM steps
            WHERE queue = :queue AND tenant = share.tenant AND kind <> 'deliver'
              AND state = 'queued' AND run_at <= statement_timestamp()
            ORDER BY rank, job_turn, job_id, idx LIMIT share.steps
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS step
    ), passed_over AS (
        SELECT id, tenant, row_number() OVER (PARTITION BY tenant ORDER BY tenant_turn) AS n
        FROM turn
        WHERE id NOT IN (SELECT id FROM picked)
          AND (SELECT min(tenant) FROM steps
               WHERE queue = :queue AND kind <> 'deliver' AND state = 'queued')
              <> (SELECT max(tenant) FROM steps
                  WHERE queue = :queue AND kind <> 'deliver' AND state = 'queued')
    ), left_over AS (
        SELECT tenant, tenant_turn,
               row_number() OVER (PARTITION BY tenant ORDER BY tenant_turn) AS n
        FROM picked WHERE id NOT IN (SELECT id FROM turn)
    ), free AS (
        SELECT steps.id FROM steps JOIN passed_over USING (id)
        WHERE steps.state = 'queued' FOR NO KEY UPDATE OF steps SKIP LOCKED
    ), handed_on AS (
        UPDATE steps SET tenant_turn = left_over.tenant_turn
        FROM passed_over JOIN left_over USING (tenant, n)
        WHERE steps.id = passed_over.id AND steps.id IN (SELECT id FROM free)
    ), claimed AS (
        UPDATE steps SET {_MARK} FROM picked WHERE steps.id = picked.id RETURNING steps.*
    )
    SELECT {COLUMNS.replace("steps.", "claimed.")}, jobs.state AS job_state, due.found,
           (SELECT array_agg(tenant) FROM share) AS tenants
    FROM (SELECT count(*) AS found FROM due) AS due
    LEFT JOIN claimed ON true LEFT JOIN jobs ON jobs.id = claimed.job_id
""")  # noqa: S608 - constants

# The jobs of deliveries have ended, and are too many to look through. So lanes are found one by
# one, and of each no more than it takes at once. An endpoint is locked while one of its steps is
# claimed: two claims do not count the same free place. Where the endpoint was deleted, the worker
# finds that out and ends the step.
_CLAIM_DELIVERY = text(f"""
    WITH RECURSIVE lanes AS (
        SELECT min(lane) AS lane FROM steps WHERE lane IS NOT NULL AND state = 'queued'
        UNION ALL
        SELECT (
            SELECT min(steps.lane) FROM steps
            WHERE steps.lane > lanes.lane AND state = 'queued'
        ) FROM lanes WHERE lanes.lane IS NOT NULL
    ), lane_busy AS (
        SELECT lane, count(*) AS n FROM steps
        WHERE queue = :queue AND state = 'running' GROUP BY lane
    ), tenant_busy AS (
        SELECT tenant, count(*) AS n FROM steps
        WHERE queue = :queue AND state = 'running' GROUP BY tenant
    ), waiting AS (
        SELECT next.*, coalesce(lane_busy.n, 0) AS lane_turn
        FROM lanes LEFT JOIN lane_busy USING (lane)
        CROSS JOIN LATERAL (
            SELECT id, tenant, run_at, steps.lane FROM steps
            WHERE steps.lane = lanes.lane AND state = 'queued' AND run_at <= statement_timestamp()
            ORDER BY run_at LIMIT 1
        ) AS next
        WHERE coalesce(lane_busy.n, 0) < :lane_limit
    ), free AS (
        SELECT waiting.id FROM waiting
        JOIN webhook_endpoints ON webhook_endpoints.id = CAST(waiting.lane AS uuid)
        LEFT JOIN tenant_busy ON tenant_busy.tenant = waiting.tenant
        ORDER BY coalesce(tenant_busy.n, 0), lane_turn, waiting.run_at, waiting.id
        LIMIT :limit
        FOR NO KEY UPDATE OF webhook_endpoints SKIP LOCKED
    ), orphan AS (
        SELECT id FROM waiting
        WHERE NOT EXISTS (SELECT FROM webhook_endpoints WHERE id = CAST(waiting.lane AS uuid))
    ), picked AS (
        SELECT steps.id FROM (SELECT id FROM free UNION ALL SELECT id FROM orphan) AS next
        JOIN steps USING (id)
        WHERE steps.state = 'queued'
        LIMIT :limit
        FOR NO KEY UPDATE OF steps SKIP LOCKED
    ), claimed AS (
        UPDATE steps SET {_MARK} FROM picked WHERE steps.id = picked.id RETURNING steps.*
    )
    SELECT {COLUMNS.replace("steps.", "claimed.")}, jobs.state AS job_state, waiting.found,
           CAST(NULL AS text[]) AS tenants
    FROM (SELECT count(*) AS found FROM waiting) AS waiting
    LEFT JOIN claimed ON true LEFT JOIN jobs ON jobs.id = claimed.job_id
""")  # noqa: S608 - constants


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
        rows = _claim(engine, queue, passed_by, owner=owner, lease_s=lease_s, limit=limit)
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


def _claim(
    engine: Engine,
    queue: str,
    passed_by: Sequence[str],
    *,
    owner: str,
    lease_s: float,
    limit: int,
) -> Sequence[Row[Any]]:
    parameters: dict[str, Any] = {
        "queue": queue,
        "owner": owner,
        "lease_s": lease_s,
        "limit": limit,
    }
    with begin(engine) as connection:
        if queue == DELIVER_QUEUE:
            parameters["lane_limit"] = LANE_LIMIT
            return connection.execute(_CLAIM_DELIVERY, parameters).all()
        if queue == LARGE_QUEUE:
            room = _room_for_large(connection, lease_s)
            if room <= 0:
                return []
            parameters["limit"] = min(limit, room)
        parameters["passed_by"] = list(passed_by)
        return connection.execute(_CLAIM, parameters).all()


def _room_for_large(connection: Connection, live_s: float) -> int:
    """Return how many more large files may be prepared now; others wait until this one is counted.

    They are few and take long, so the lock is no bottleneck.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('longhand:large files'))"))
    return int(
        connection.execute(
            text("""
                SELECT greatest(1, (
                    SELECT coalesce(sum(slots), 0) FROM workers
                    WHERE :queue = ANY (queues) AND state = 'ready'
                      AND last_seen_at > clock_timestamp() - make_interval(secs => :live_s)
                ) - 1) - (SELECT count(*) FROM steps WHERE queue = :queue AND state = 'running')
            """),
            {"queue": LARGE_QUEUE, "live_s": live_s},
        ).scalar_one()
    )


def _start(engine: Engine, job_ids: Sequence[UUID]) -> None:
    """Jobs queued -> running.

    In a transaction of its own: a claim holds no lock on a job, so claims and completions of one
    job do not wait for each other.
    """
    with begin(engine) as connection:
        connection.execute(
            text("""
                WITH waiting AS (
                    SELECT id FROM jobs WHERE id = ANY (:ids) AND state = 'queued'
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
    with begin(engine) as connection:
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
