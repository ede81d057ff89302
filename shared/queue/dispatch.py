"""Dispatch: deciding which steps' messages go to the broker, and sending them.

A message is a doorbell: it carries a step id and may be lost, doubled or late. So it is sent after
the commit, a failure to send is not an error, and what was dispatched but not claimed is sent
again. Only ``dispatched_at`` is written here; it says that a message was sent and nothing about
the step's state.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from celery import Celery
from sqlalchemy import Engine, Row, text

from shared.infra.background import Bell
from shared.infra.database import begin
from shared.infra.errors import BrokerUnavailable, DatabaseUnavailable
from shared.infra.settings import Settings
from shared.queue.broker import send_step
from shared.store.queues import DELIVER_QUEUE, PREPARE_LARGE_QUEUE
from shared.store.states import STEP_MAY_RUN

log = logging.getLogger(__name__)

_LEAST_BACKLOG = 4
"""Messages kept in a queue that no live worker is known to consume: enough to wake a new one."""

_LAST_CLAIMS = 20
"""By which a queue's wait is judged: more than most queues have in flight, so that those which an
outage held up are the fewer."""

LANE_LIMIT = 4
"""Steps of one lane in flight at once: a quarter of what a delivery worker does. An endpoint that
hangs does not hold up the others."""


def fill_queues(engine: Engine, broker: Celery, settings: Settings) -> None:
    """Send the messages of all steps that should be in their queues now.

    Never raises for a broker that is away: its messages are taken back and the sweeper sends them.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    for queue in _queues_with_work(engine):
        chosen = _take(engine, queue, live_s=settings.lease_s, least=_LEAST_BACKLOG)
        for sent, step in enumerate(chosen):
            try:
                send_step(
                    broker,
                    kind=step.kind,
                    step_id=step.id,
                    queue=queue,
                    job_id=step.job_id,
                    idx=step.idx,
                )
            except BrokerUnavailable as error:
                log.warning("%s: %d messages kept back for %s", error, len(chosen) - sent, queue)
                _take_back(engine, [unsent.id for unsent in chosen[sent:]])
                return


class Doorbell(Bell):
    """Fills the queues whenever it is rung."""

    def __init__(self, engine: Engine, broker: Celery, settings: Settings) -> None:
        """Wait for rings."""
        super().__init__("doorbell", partial(_dispatch, engine, broker, settings))


def _dispatch(engine: Engine, broker: Celery, settings: Settings) -> None:
    try:
        fill_queues(engine, broker, settings)
    except DatabaseUnavailable as error:
        log.warning("%s: the sweeper will dispatch instead", error)


def _queues_with_work(engine: Engine) -> Sequence[str]:
    """Return the queues that have an undispatched step; of deliveries, one that is due."""
    with begin(engine) as connection:
        return (
            connection.execute(
                text("""
                    WITH RECURSIVE queues AS (
                        SELECT min(queue) AS queue FROM steps
                        WHERE state = 'queued' AND dispatched_at IS NULL
                        UNION ALL
                        SELECT (
                            SELECT min(steps.queue) FROM steps
                            WHERE steps.queue > queues.queue
                              AND state = 'queued' AND dispatched_at IS NULL
                        ) FROM queues WHERE queues.queue IS NOT NULL
                    )
                    SELECT queue FROM queues
                    WHERE queue <> :deliver OR queue = :deliver AND EXISTS (
                        SELECT FROM steps
                        WHERE lane IS NOT NULL AND state = 'queued' AND dispatched_at IS NULL
                          AND run_at <= statement_timestamp()
                    )
                """),
                {"deliver": DELIVER_QUEUE},
            )
            .scalars()
            .all()
        )


# Steps of several jobs are written without locks on the jobs, so none that is locked is waited for:
# who changes all steps of a job, to retry it or to delete it, may wait for this one.
_FREE_OF_IDS = """
    SELECT id FROM steps WHERE id = ANY (:ids) AND state = 'queued'
    FOR NO KEY UPDATE SKIP LOCKED
"""

# Thousands of jobs may wait, and thousands of steps of one, so no more are looked at than there is
# room for: of each tenant that has any, found by one look into the index ("loose index scan"), the
# first jobs, and of each job the first steps. Jobs with something in flight have had their turn, so
# as many jobs more are looked at as there are of these. Unlike the clock's, the statement's time is
# a bound that the index knows.
_FAIR_ORDER = text("""
    WITH RECURSIVE busy AS (
        SELECT job_id, jobs.tenant, count(*) AS n
        FROM steps JOIN jobs ON jobs.id = steps.job_id
        WHERE queue = :queue
          AND (steps.state = 'running'
               OR steps.state = 'queued' AND dispatched_at < 'infinity')
          AND jobs.state IN ('queued', 'running')
        GROUP BY job_id, jobs.tenant
    ), tenants AS (
        SELECT min(tenant) AS tenant FROM steps
        WHERE queue = :queue AND state = 'queued' AND dispatched_at IS NULL
        UNION ALL
        SELECT (
            SELECT min(steps.tenant) FROM steps
            WHERE queue = :queue AND steps.tenant > tenants.tenant
              AND state = 'queued' AND dispatched_at IS NULL
        ) FROM tenants WHERE tenants.tenant IS NOT NULL
    ), tenants_busy AS (
        SELECT tenants.tenant, coalesce(sum(n), 0) AS n, count(job_id) AS n_jobs
        FROM tenants LEFT JOIN busy USING (tenant)
        WHERE tenants.tenant IS NOT NULL GROUP BY tenants.tenant
    ), waiting AS (
        SELECT next.id, next.kind, tenants_busy.tenant, tenants_busy.n AS tenant_turn,
               first.rank, first.job_id, coalesce(busy.n, 0) + next.turn AS job_turn
        FROM tenants_busy
        CROSS JOIN LATERAL (
            WITH RECURSIVE first AS (
                (
                    SELECT rank, job_id FROM steps
                    WHERE queue = :queue AND tenant = tenants_busy.tenant
                      AND state = 'queued' AND dispatched_at IS NULL
                      AND run_at <= statement_timestamp()
                    ORDER BY rank, job_id LIMIT 1
                )
                UNION ALL
                SELECT following.* FROM first CROSS JOIN LATERAL (
                    SELECT rank, job_id FROM steps
                    WHERE queue = :queue AND tenant = tenants_busy.tenant
                      AND (steps.rank, steps.job_id) > (first.rank, first.job_id)
                      AND state = 'queued' AND dispatched_at IS NULL
                      AND run_at <= statement_timestamp()
                    ORDER BY rank, job_id LIMIT 1
                ) AS following
            )
            SELECT rank, job_id FROM first LIMIT :room + tenants_busy.n_jobs
        ) AS first
        LEFT JOIN busy ON busy.job_id = first.job_id
        CROSS JOIN LATERAL (
            SELECT id, kind, row_number() OVER (ORDER BY idx) AS turn FROM steps
            WHERE queue = :queue AND tenant = tenants_busy.tenant
              AND rank = first.rank AND job_id = first.job_id
              AND state = 'queued' AND dispatched_at IS NULL AND run_at <= statement_timestamp()
            ORDER BY idx LIMIT :room
        ) AS next
    )
    SELECT id, kind FROM waiting
    ORDER BY tenant_turn + row_number() OVER (
                 PARTITION BY tenant ORDER BY rank, job_turn, job_id
             ),
             rank, job_id
    LIMIT :room
""")


# Jobs that have ended are too many to look through, so these are found lane by lane, and of each no
# more than it takes at once.
_ORDER_OF_DELIVERIES = text("""
    WITH RECURSIVE lanes AS (
        SELECT min(lane) AS lane FROM steps
        WHERE lane IS NOT NULL AND state = 'queued' AND dispatched_at IS NULL
        UNION ALL
        SELECT (
            SELECT min(steps.lane) FROM steps
            WHERE steps.lane > lanes.lane AND state = 'queued' AND dispatched_at IS NULL
        ) FROM lanes WHERE lanes.lane IS NOT NULL
    ), busy AS (
        SELECT steps.lane, jobs.tenant FROM steps JOIN jobs ON jobs.id = steps.job_id
        WHERE queue = :queue
          AND (steps.state = 'running' OR steps.state = 'queued' AND dispatched_at < 'infinity')
    ), lane_busy AS (
        SELECT lane, count(*) AS n FROM busy GROUP BY lane
    ), tenant_busy AS (
        SELECT tenant, count(*) AS n FROM busy GROUP BY tenant
    ), waiting AS (
        SELECT next.id, next.kind, next.run_at, jobs.tenant,
               coalesce(lane_busy.n, 0) + next.turn AS lane_turn
        FROM lanes
        LEFT JOIN lane_busy USING (lane)
        CROSS JOIN LATERAL (
            SELECT id, kind, job_id, run_at, row_number() OVER (ORDER BY run_at) AS turn
            FROM steps
            WHERE steps.lane = lanes.lane AND state = 'queued' AND dispatched_at IS NULL
              AND run_at <= statement_timestamp()
            ORDER BY run_at LIMIT :lane_limit
        ) AS next
        JOIN jobs ON jobs.id = next.job_id
        WHERE coalesce(lane_busy.n, 0) + next.turn <= :lane_limit
    )
    SELECT waiting.id, waiting.kind
    FROM waiting LEFT JOIN tenant_busy USING (tenant)
    ORDER BY coalesce(tenant_busy.n, 0) + row_number() OVER (
                 PARTITION BY tenant ORDER BY lane_turn, run_at, waiting.id
             ),
             run_at, waiting.id
    LIMIT :room
""")


def _take(engine: Engine, queue: str, *, live_s: float, least: int) -> list[Row[Any]]:
    """Mark as dispatched the steps whose messages should go to ``queue`` now.

    Returns id, kind, job_id and idx of each, in their order.

    Messages in the queue are kept to about the number of steps that its ready workers take at once
    (seen within ``live_s``; at least ``least``), so that order is decided here, late, and not by
    what was sent long ago. The order is fair: each tenant's next turn counts what it has running or
    dispatched, so tenants alternate; within a tenant what has lost its worker goes first, then
    priority decides, then each job's own turn (a short job does not wait for a long one's chunks),
    then age. Of a tenant's deliveries, each endpoint's own turn decides, then age, and an endpoint
    has at most ``LANE_LIMIT`` in flight.

    Large files are prepared one at least at a time, and as many as leave a slot to others: small
    files and ``finish`` wait for none of them.
    """
    with begin(engine) as connection:
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtext('longhand:dispatch:' || :queue))"),
            {"queue": queue},
        )
        slots, running, backlog = connection.execute(
            text(f"""
                SELECT (
                    SELECT coalesce(sum(slots), 0) FROM workers
                    WHERE :queue = ANY (queues) AND state = 'ready'
                      AND last_seen_at > clock_timestamp() - make_interval(secs => :live_s)
                ), count(*) FILTER (WHERE steps.state = 'running'),
                   count(*) FILTER (WHERE steps.state = 'queued')
                FROM steps JOIN jobs ON jobs.id = steps.job_id
                WHERE steps.queue = :queue AND {STEP_MAY_RUN}
                  AND (steps.state = 'running'
                       OR steps.state = 'queued' AND steps.dispatched_at < 'infinity')
            """),  # noqa: S608 - the variable part is a constant
            {"queue": queue, "live_s": live_s},
        ).one()
        if queue == PREPARE_LARGE_QUEUE:
            room = max(1, slots - 1) - running - backlog
        else:
            room = max(least, slots) - backlog
        if room <= 0:
            return []
        if queue == DELIVER_QUEUE:
            limits = {"queue": queue, "room": room, "lane_limit": LANE_LIMIT}
            chosen = connection.execute(_ORDER_OF_DELIVERIES, limits).all()
        else:
            chosen = connection.execute(_FAIR_ORDER, {"queue": queue, "room": room}).all()
        taken = connection.execute(
            text(f"""
                UPDATE steps SET dispatched_at = clock_timestamp()
                WHERE id IN ({_FREE_OF_IDS}) AND dispatched_at IS NULL
                RETURNING id, kind, job_id, idx
            """),  # noqa: S608 - the variable part is a constant
            {"ids": [step_id for step_id, _ in chosen]},
        )
        free = {step.id: step for step in taken}
        return [free[step_id] for step_id, _ in chosen if step_id in free]


def _take_back(engine: Engine, step_ids: Sequence[int]) -> None:
    """Dispatched -> undispatched: their messages could not be sent."""
    with begin(engine) as connection:
        connection.execute(
            text(f"""
                UPDATE steps SET dispatched_at = NULL
                WHERE id IN ({_FREE_OF_IDS}) AND dispatched_at < 'infinity'
            """),  # noqa: S608 - the variable part is a constant
            {"ids": list(step_ids)},
        )


def forget_stale_dispatches(engine: Engine, *, least_age_s: float) -> int:
    """Dispatched but unclaimed for too long -> undispatched: the message is presumed lost.

    Too long is twice the median wait of the queue's last claims, at least ``least_age_s``: a slow
    queue is not filled with copies, and the few that an outage held up do not put off what it has
    lost. Returns the number of steps.
    """
    # That claimed_at is not null follows from the rest, but the index does not know it: thousands
    # that wait would be looked at first.
    with begin(engine) as connection:
        return connection.execute(
            text("""
                WITH late AS (
                    SELECT id, queue, clock_timestamp() - dispatched_at AS age FROM steps
                    WHERE state = 'queued' AND dispatched_at < 'infinity'
                      AND dispatched_at < clock_timestamp() - make_interval(secs => :least_age_s)
                ), usual AS (
                    SELECT queue, (
                        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY wait) FROM (
                            SELECT claimed_at - dispatched_at AS wait FROM steps
                            WHERE steps.queue = late.queue AND dispatched_at < claimed_at
                              AND claimed_at IS NOT NULL
                            ORDER BY claimed_at DESC LIMIT :last_claims
                        ) AS waits
                    ) AS wait
                    FROM late GROUP BY queue
                ), stale AS (
                    SELECT steps.id
                    FROM steps JOIN late USING (id) JOIN usual ON usual.queue = late.queue
                    WHERE steps.state = 'queued' AND steps.dispatched_at < 'infinity'
                      AND late.age > 2 * coalesce(usual.wait, interval '0')
                    FOR NO KEY UPDATE OF steps SKIP LOCKED
                )
                UPDATE steps SET dispatched_at = NULL FROM stale WHERE steps.id = stale.id
            """),
            {"least_age_s": least_age_s, "last_claims": _LAST_CLAIMS},
        ).rowcount
