"""The order in which the steps of a queue are claimed, and the limits on how many run."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, TextClause, text

from shared.store.queues import (
    CPU_QUEUE,
    DELIVER_QUEUE,
    DELIVERY_SLOTS,
    FETCH_QUEUE,
    LARGE_QUEUE,
    LISTEN_QUEUE,
)

LANE_LIMIT = 4
"""Deliveries to one endpoint at once."""

FIRST_RANK = -(2**31)
"""Of steps that have lost their worker: before any priority."""

COLUMNS = f"""
    steps.id AS step_id, steps.job_id, steps.tenant, steps.kind, steps.idx, steps.queue,
    steps.attempt, steps.max_attempts, steps.outages, steps.epoch, steps.lease_owner AS owner,
    steps.input, steps.audio, steps.bug, jobs.options, jobs.detected_language,
    jobs.detected_probability, jobs.source_key, coalesce(jobs.source_bytes, 0) AS source_bytes,
    jobs.duration_s, jobs.metrics,
    steps.kind = 'transcribe' AND jobs.plan_complete AND jobs.chunks_total = 1
        AND jobs.options -> 'speakers' ->> 'model' IS NULL AS only_chunk,
    jobs.traceparent, extract(epoch FROM steps.claimed_at - steps.run_at)::float8 AS waited_s,
    steps.attempt > 1 OR steps.outages > 0 OR steps.rank = {FIRST_RANK} AS is_repeated
"""
"""SQL for what ``claim_of`` needs of a step and its job."""

_MARK = """
    state = 'running', attempt = attempt + 1, epoch = epoch + 1, lease_owner = :owner,
    claimed_at = clock_timestamp(),
    lease_until = clock_timestamp() + make_interval(secs => :lease_s)
"""

# The order is decided in two stages. ``due`` and ``turn`` find whose turn it is: the tenants of the
# steps with the lowest tenant turns. ``picked`` takes each of these tenants' first steps by rank,
# by the turns of its jobs and by age. If those are other steps, ``handed_on`` swaps their turns: a
# tenant uses up as many turns as it takes, the lowest first. That is skipped while one tenant
# waits. Both stages walk along an index for as many steps as are claimed, however many wait.
#
# A step that another transaction has locked is skipped. A tenant whose due steps are all locked is
# left out of the next statement (:passed_by).
#
# clock_timestamp() is volatile, so no statistics about run_at count. By those of a moment at which
# few steps were due, Postgres would read all that are due now and sort them, at each claim.
#
# The limit is a literal. With a parameter Postgres would either plan the statement each time, which
# takes longer than to run it, or keep a plan made for a tenth of all waiting steps.
_CLAIM = f"""
    WITH due AS MATERIALIZED (
        SELECT id, tenant, tenant_turn FROM steps
        WHERE queue = :queue AND kind <> 'deliver' AND state = 'queued'
          AND run_at <= clock_timestamp() AND tenant <> ALL (CAST(:passed_by AS text[]))
        ORDER BY tenant_turn, id LIMIT {{limit}} + 1
    ), turn AS MATERIALIZED (
        SELECT id, tenant, tenant_turn FROM due ORDER BY tenant_turn, id LIMIT {{limit}}
    ), share AS (
        SELECT tenant, count(*) AS steps FROM turn GROUP BY tenant
    ), picked AS MATERIALIZED (
        SELECT step.* FROM share CROSS JOIN LATERAL (
            SELECT id, tenant, tenant_turn FROM steps
            WHERE queue = :queue AND tenant = share.tenant AND kind <> 'deliver'
              AND state = 'queued' AND run_at <= clock_timestamp()
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
    ORDER BY claimed.rank, claimed.job_turn, claimed.job_id, claimed.idx
"""  # noqa: S608 - constants


@cache
def _claim_up_to(limit: int) -> TextClause:
    return text(_CLAIM.format(limit=int(limit)))


# Deliveries of ended jobs are too many to sort, so lanes are found one by one, and in each its
# first due step. If the endpoint was deleted, the worker finds out and ends the step.
#
# An endpoint whose last attempt took long, or that had none, is not prompt: it may hang, and hold a
# slot for the whole time limit. Of all slots of the ready workers
#   - a tenant has half at most;
#   - its endpoints that are not prompt have half of these, so the others always go on;
#   - of those the ones whose host is being waited for have half, so another host is tried at once;
#   - one such host has a sixteenth of all, for all tenants.
_CLAIM_DELIVERY = text(f"""
    WITH RECURSIVE lanes AS (
        SELECT min(lane) AS lane FROM steps WHERE lane IS NOT NULL AND state = 'queued'
        UNION ALL
        SELECT (
            SELECT min(steps.lane) FROM steps
            WHERE steps.lane > lanes.lane AND state = 'queued'
        ) FROM lanes WHERE lanes.lane IS NOT NULL
    ), all_slots AS (
        SELECT coalesce(sum(slots), :slots) AS n FROM workers
        WHERE :queue = ANY (queues) AND state = 'ready'
          AND last_seen_at > clock_timestamp() - make_interval(secs => :lease_s)
    ), busy AS MATERIALIZED (
        SELECT steps.lane, steps.tenant, host, prompt
        FROM steps LEFT JOIN webhook_endpoints ON webhook_endpoints.id = CAST(steps.lane AS uuid)
        WHERE queue = :queue AND steps.state = 'running'
    ), lane_busy AS (
        SELECT lane, count(*) AS n FROM busy GROUP BY lane
    ), host_busy AS (
        SELECT host, count(*) AS n FROM busy WHERE NOT prompt GROUP BY host
    ), tenant_busy AS (
        SELECT tenant, count(*) AS n, count(*) FILTER (WHERE NOT prompt) AS slow
        FROM busy GROUP BY tenant
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
        JOIN webhook_endpoints AS endpoint ON endpoint.id = CAST(waiting.lane AS uuid)
        LEFT JOIN tenant_busy ON tenant_busy.tenant = waiting.tenant
        LEFT JOIN host_busy ON host_busy.host = endpoint.host
        CROSS JOIN all_slots
        WHERE coalesce(tenant_busy.n, 0) < greatest(1, all_slots.n / 2)
          AND (prompt OR coalesce(host_busy.n, 0) < greatest(1, all_slots.n / 16)
               AND coalesce(tenant_busy.slow, 0)
                   < greatest(1, all_slots.n / CASE WHEN host_busy.n > 0 THEN 8 ELSE 4 END))
        ORDER BY coalesce(tenant_busy.n, 0), NOT prompt, coalesce(host_busy.n, 0) > 0, lane_turn,
                 waiting.run_at, waiting.id
        LIMIT :limit
        FOR NO KEY UPDATE OF endpoint SKIP LOCKED
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


# Listening copies are made when there is nothing else to do. The sweep wakes a worker again.
_CPU_STEP_IS_DUE = text(f"""
    SELECT EXISTS (
        SELECT FROM steps WHERE queue IN ('{CPU_QUEUE}', '{LARGE_QUEUE}', '{FETCH_QUEUE}')
          AND state = 'queued' AND run_at <= statement_timestamp()
    )
""")  # noqa: S608 - constants


def take_next(
    connection: Connection,
    queue: str,
    passed_by: Sequence[str],
    *,
    owner: str,
    lease_s: float,
    limit: int,
) -> Sequence[Row[Any]]:
    """Steps queued -> running: the next ones of a queue, without those of tenants ``passed_by``.

    Returns a row of ``COLUMNS``, ``job_state``, ``found`` and ``tenants`` per step, or one row
    without a step. ``found`` counts the due steps seen, at most ``limit + 1``; ``tenants`` are
    those whose turn it was.
    """
    parameters: dict[str, Any] = {"queue": queue, "owner": owner, "lease_s": lease_s}
    if queue == DELIVER_QUEUE:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('longhand:deliveries'))"))
        parameters |= {"lane_limit": LANE_LIMIT, "slots": DELIVERY_SLOTS, "limit": 1}
        return connection.execute(_CLAIM_DELIVERY, parameters).all()
    if queue == LISTEN_QUEUE and connection.execute(_CPU_STEP_IS_DUE).scalar_one():
        return []
    parameters["passed_by"] = list(passed_by)
    if queue not in (FETCH_QUEUE, LARGE_QUEUE):
        return connection.execute(_claim_up_to(limit), parameters).all()
    room = room_in(connection, queue, lease_s)
    if room <= 0:
        return []
    claim = _claim_up_to(min(limit, room))
    if queue == FETCH_QUEUE and (served := _with_their_share(connection, queue, room)):
        rows = connection.execute(claim, parameters | {"passed_by": [*passed_by, *served]}).all()
        if rows[0].found:
            return rows
    return connection.execute(claim, parameters).all()


def room_in(connection: Connection, queue: str, live_s: float) -> int:
    """Return how many more steps of a queue may run now, under a lock until the commit.

    One slot of the ready workers is left to other queues, but one step may always run. Such steps
    are few and take long, so the lock is no bottleneck.
    """
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtext('longhand:' || :queue))"), {"queue": queue}
    )
    return int(
        connection.execute(
            text("""
                SELECT greatest(1, (
                    SELECT coalesce(sum(slots), 0) FROM workers
                    WHERE :queue = ANY (queues) AND state = 'ready'
                      AND last_seen_at > clock_timestamp() - make_interval(secs => :live_s)
                ) - 1) - (SELECT count(*) FROM steps WHERE queue = :queue AND state = 'running')
            """),
            {"queue": queue, "live_s": live_s},
        ).scalar_one()
    )


def _with_their_share(connection: Connection, queue: str, room: int) -> list[str]:
    """Return the tenants that have half of the running steps and the room, or more."""
    running = connection.execute(
        text("""
            SELECT tenant, count(*) AS n FROM steps
            WHERE queue = :queue AND state = 'running' GROUP BY tenant
        """),
        {"queue": queue},
    ).all()
    most = max(1, (room + sum(each.n for each in running)) // 2)
    return [each.tenant for each in running if each.n >= most]
