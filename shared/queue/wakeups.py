"""Wake-ups: the messages that tell idle workers of due steps.

A wake-up names a queue and nothing else. The worker that takes it claims the fairest due step, so
the order is decided as late as possible. A wake-up that is lost, late or doubled only changes how
soon a step is claimed: busy workers look for more work themselves, and the sweep wakes idle ones.
"""

import heapq
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

from celery import Celery
from sqlalchemy import Engine, text

from shared.infra.background import Background
from shared.infra.database import read
from shared.infra.errors import BrokerUnavailable, DatabaseUnavailable
from shared.infra.settings import Settings
from shared.queue.broker import count_messages, send_wakeups

log = logging.getLogger(__name__)

_LEAST_SLOTS = 4
"""Wake-ups kept in a queue that no ready worker consumes, for the next one that does."""

_KEEP_SLOTS_S = 5.0
"""How long the number of ready workers' slots is cached."""


class Wakeups:
    """Sends wake-ups from a thread, so that no caller of ``ring`` waits for Redis.

    A queue never has more of them than its ready workers have slots.
    """

    def __init__(
        self,
        engine: Engine,
        broker: Celery,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._broker = broker
        self._live_s = settings.live_s
        self._clock = clock
        self._rung: list[tuple[float, str, int]] = []
        """A heap: when so many steps of a queue are due, by the clock."""
        self._lock = threading.Lock()
        self._slots: Mapping[str, int] = {}
        self._slots_until = 0.0
        self._sender = Background("wakeups", self._send)

    def ring(self, queue: str, steps: int, after_s: float = 0.0) -> None:
        """Wake workers for steps of a queue that are due ``after_s`` from now; returns at once."""
        with self._lock:
            heapq.heappush(self._rung, (self._clock() + after_s, queue, steps))
        self._sender.ring()

    def close(self) -> None:
        """Send what is due and stop."""
        self._sender.close()

    def top_up(self) -> None:
        """Wake workers for all due steps, as a wake-up may be lost or was never sent.

        Raises:
            DatabaseUnavailable: Postgres cannot be reached.
        """
        slots = self._read_slots()
        for queue, steps in _count_due(self._engine, max(_LEAST_SLOTS, *slots.values(), 0)).items():
            self.ring(queue, steps)

    def _send(self) -> float | None:
        """Send wake-ups for what is due; return the seconds until more is."""
        due: Counter[str] = Counter()
        with self._lock:
            while self._rung and self._rung[0][0] <= self._clock():
                _, queue, steps = heapq.heappop(self._rung)
                due[queue] += steps
        for queue, steps in due.items():
            try:
                most = self._slots_of(queue)
                wanted = min(steps, most - count_messages(self._broker, queue))
                send_wakeups(self._broker, queue, wanted)
            except (BrokerUnavailable, DatabaseUnavailable) as error:
                log.warning("%s: the sweep wakes the workers of %s", error, queue)
        with self._lock:
            return max(0.0, self._rung[0][0] - self._clock()) if self._rung else None

    def _slots_of(self, queue: str) -> int:
        if self._clock() >= self._slots_until:
            self._slots = self._read_slots()
            self._slots_until = self._clock() + _KEEP_SLOTS_S
        return max(_LEAST_SLOTS, self._slots.get(queue, 0))

    def _read_slots(self) -> dict[str, int]:
        with read(self._engine) as connection:
            rows = connection.execute(
                text("""
                    SELECT queue, sum(slots) AS slots
                    FROM workers CROSS JOIN unnest(queues) AS queue
                    WHERE state IN ('ready', 'unloaded')
                      AND last_seen_at > clock_timestamp() - make_interval(secs => :live_s)
                    GROUP BY queue
                """),
                {"live_s": self._live_s},
            )
            return {row.queue: row.slots for row in rows}


def _count_due(engine: Engine, at_most: int) -> dict[str, int]:
    """Return the number of due steps of each queue, counting up to ``at_most``."""
    with read(engine) as connection:
        rows = connection.execute(
            text("""
                WITH RECURSIVE queues AS (
                    SELECT min(queue) AS queue FROM steps WHERE state = 'queued'
                    UNION ALL
                    SELECT (
                        SELECT min(steps.queue) FROM steps
                        WHERE steps.queue > queues.queue AND state = 'queued'
                    ) FROM queues WHERE queues.queue IS NOT NULL
                )
                SELECT queue, (
                    SELECT count(*) FROM (
                        SELECT FROM steps
                        WHERE steps.queue = queues.queue AND state = 'queued'
                          AND run_at <= statement_timestamp()
                        LIMIT :at_most
                    ) AS due
                ) AS due
                FROM queues WHERE queue IS NOT NULL
            """),
            {"at_most": at_most},
        )
        return {row.queue: row.due for row in rows if row.due}
