"""Dispatch: deciding which steps' messages go to the broker, and sending them.

A message is a doorbell: it carries a step id and may be lost, doubled or late. So it is sent after
the commit, a failure to send is not an error, and what was dispatched but not claimed is sent
again. Only ``dispatched_at`` is written here; it says that a message was sent and nothing about
the step's state.
"""

import logging
import threading
from collections.abc import Sequence

from celery import Celery
from sqlalchemy import Engine, text

from shared.broker import send_step
from shared.database import begin
from shared.errors import BrokerUnavailable, DatabaseUnavailable
from shared.settings import Settings

log = logging.getLogger(__name__)

_LEAST_BACKLOG = 4
"""Messages kept in a queue that no live worker is known to consume: enough to wake a new one."""


def fill_queues(engine: Engine, broker: Celery, settings: Settings) -> None:
    """Send the messages of all steps that should be in their queues now.

    Never raises for a broker that is away: its messages are taken back and the sweeper sends them.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    for queue in _queues_with_work(engine):
        chosen = _take(engine, queue, live_s=settings.lease_s, least=_LEAST_BACKLOG)
        for sent, (step_id, kind) in enumerate(chosen):
            try:
                send_step(broker, kind=kind, step_id=step_id, queue=queue)
            except BrokerUnavailable as error:
                log.warning("%s: %d messages kept back for %s", error, len(chosen) - sent, queue)
                _take_back(engine, [unsent for unsent, _ in chosen[sent:]])
                return


class Doorbell:
    """Fills the queues from a thread of its own, so that nobody who rings waits for the broker.

    Rings while a round is under way are answered by one further round.
    """

    def __init__(self, engine: Engine, broker: Celery, settings: Settings) -> None:
        self._engine = engine
        self._broker = broker
        self._settings = settings
        self._rung = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
        self._thread.start()

    def ring(self) -> None:
        """Ask for a round; returns at once."""
        self._rung.set()

    def close(self, timeout_s: float = 5.0) -> None:
        """Answer what was rung and stop."""
        self._closing = True
        self._rung.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._closing or self._rung.is_set():
            self._rung.wait()
            self._rung.clear()
            try:
                fill_queues(self._engine, self._broker, self._settings)
            except DatabaseUnavailable as error:
                log.warning("%s: the sweeper will dispatch instead", error)
            except Exception:  # whatever it was, later rings must be answered
                log.exception("unexpected error: the sweeper will dispatch instead")


def _queues_with_work(engine: Engine) -> Sequence[str]:
    """Return the queues that have a due, undispatched step of an active job."""
    with begin(engine) as connection:
        return (
            connection.execute(
                text("""
                    SELECT DISTINCT steps.queue FROM jobs JOIN steps ON steps.job_id = jobs.id
                    WHERE jobs.state IN ('queued', 'running')
                      AND steps.state = 'queued' AND steps.dispatched_at IS NULL
                      AND steps.run_at <= clock_timestamp()
                """)
            )
            .scalars()
            .all()
        )


# Of a job no more steps are ranked than there is room for: a long one has thousands.
_FAIR_ORDER = text("""
    WITH busy AS (
        SELECT job_id, count(*) AS n FROM steps
        WHERE queue = :queue
          AND (state = 'running' OR state = 'queued' AND dispatched_at IS NOT NULL)
        GROUP BY job_id
    ), tenant_busy AS (
        SELECT tenant, sum(n) AS n FROM busy JOIN jobs ON jobs.id = busy.job_id
        WHERE jobs.state IN ('queued', 'running') GROUP BY tenant
    ), waiting AS (
        SELECT next.id, next.kind, jobs.tenant, jobs.priority, jobs.id AS job_id,
               coalesce(busy.n, 0) + next.turn AS job_turn
        FROM jobs
        LEFT JOIN busy ON busy.job_id = jobs.id
        CROSS JOIN LATERAL (
            SELECT id, kind, row_number() OVER (ORDER BY idx) AS turn FROM steps
            WHERE job_id = jobs.id AND queue = :queue
              AND state = 'queued' AND dispatched_at IS NULL AND run_at <= clock_timestamp()
            ORDER BY idx LIMIT :room
        ) AS next
        WHERE jobs.state IN ('queued', 'running')
    )
    SELECT waiting.id, waiting.kind
    FROM waiting LEFT JOIN tenant_busy USING (tenant)
    ORDER BY coalesce(tenant_busy.n, 0) + row_number() OVER (
                 PARTITION BY tenant ORDER BY priority DESC, job_turn, job_id
             ),
             priority DESC, job_id
    LIMIT :room
""")


def _take(engine: Engine, queue: str, *, live_s: float, least: int) -> list[tuple[int, str]]:
    """Mark as dispatched, and return, the steps whose messages should go to ``queue`` now.

    Messages in the queue are kept to about the number of steps that its ready workers take at once
    (seen within ``live_s``; at least ``least``), so that order is decided here, late, and not by
    what was sent long ago. The order is fair: each tenant's next turn counts what it has running or
    dispatched, so tenants alternate; within a tenant priority decides, then each job's own turn
    (a short job does not wait for a long one's chunks), then age.
    """
    with begin(engine) as connection:
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtext('longhand:dispatch:' || :queue))"),
            {"queue": queue},
        )
        room = connection.execute(
            text("""
                SELECT greatest(:least, (
                    SELECT coalesce(sum(slots), 0) FROM workers
                    WHERE :queue = ANY (queues) AND state = 'ready'
                      AND last_seen_at > clock_timestamp() - make_interval(secs => :live_s)
                )) - (
                    SELECT count(*) FROM steps JOIN jobs ON jobs.id = steps.job_id
                    WHERE steps.queue = :queue AND steps.state = 'queued'
                      AND steps.dispatched_at IS NOT NULL AND jobs.state IN ('queued', 'running')
                )
            """),
            {"queue": queue, "live_s": live_s, "least": least},
        ).scalar_one()
        if room <= 0:
            return []
        chosen = connection.execute(_FAIR_ORDER, {"queue": queue, "room": room}).all()
        connection.execute(
            text("""
                UPDATE steps SET dispatched_at = clock_timestamp()
                WHERE id = ANY (:ids) AND state = 'queued'
            """),
            {"ids": [step_id for step_id, _ in chosen]},
        )
        return [(step_id, kind) for step_id, kind in chosen]


def _take_back(engine: Engine, step_ids: Sequence[int]) -> None:
    """Dispatched -> undispatched: their messages could not be sent."""
    with begin(engine) as connection:
        connection.execute(
            text("""
                UPDATE steps SET dispatched_at = NULL WHERE id = ANY (:ids) AND state = 'queued'
            """),
            {"ids": list(step_ids)},
        )


def forget_stale_dispatches(engine: Engine, *, least_age_s: float) -> int:
    """Dispatched but unclaimed for too long -> undispatched: the message is presumed lost.

    Too long is twice the longest wait among the queue's claims of the last ten minutes, at least
    ``least_age_s``: a slow queue is not filled with copies. Returns the number of steps.
    """
    with begin(engine) as connection:
        return connection.execute(
            text("""
                WITH late AS (
                    SELECT id, queue, clock_timestamp() - dispatched_at AS age FROM steps
                    WHERE state = 'queued'
                      AND dispatched_at < clock_timestamp() - make_interval(secs => :least_age_s)
                ), usual AS (
                    SELECT queue, (
                        SELECT max(claimed_at - dispatched_at) FROM steps
                        WHERE steps.queue = late.queue AND dispatched_at < claimed_at
                          AND claimed_at > clock_timestamp() - interval '10 minutes'
                    ) AS wait
                    FROM late GROUP BY queue
                )
                UPDATE steps SET dispatched_at = NULL
                FROM late JOIN usual USING (queue)
                WHERE steps.id = late.id AND steps.state = 'queued'
                  AND late.age > 2 * coalesce(usual.wait, interval '0')
            """),
            {"least_age_s": least_age_s},
        ).rowcount
