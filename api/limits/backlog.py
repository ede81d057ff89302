"""Whether the platform takes new jobs."""

from shared.infra.errors import QueueFull
from shared.infra.settings import Settings
from shared.store.counts import Backlog

SOONEST_RETRY_S, LATEST_RETRY_S = 5.0, 60.0
"""Clients that come back sooner come in vain; longer estimates are too rough."""


def check_backlog(backlog: Backlog, settings: Settings) -> None:
    """See that the platform takes a new job.

    Raises:
        QueueFull: as many jobs wait or run as may, or it would wait for too long.
    """
    n, most = backlog.jobs, settings.max_queued_jobs
    if most and n >= most:
        raise QueueFull(
            f"{n:,} jobs wait or run, which is the limit (LONGHAND_MAX_QUEUED_JOBS)",
            _retry_after_s((backlog.wait_s or 0.0) * (n - most + 1) / n),
        )
    wait_s, most_s = backlog.wait_s, settings.max_queue_wait_s
    if wait_s is not None and wait_s > most_s:
        raise QueueFull(
            f"a new job would wait for about {wait_s:,.0f} s, more than {most_s:,g} s "
            "(LONGHAND_MAX_QUEUE_WAIT_S)",
            _retry_after_s(wait_s - most_s),
        )


def _retry_after_s(excess_s: float) -> float:
    """Return when to try again if the queue is too long by so much work."""
    return min(max(excess_s, SOONEST_RETRY_S), LATEST_RETRY_S)
