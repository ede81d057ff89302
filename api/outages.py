"""The causes of 503s: logged once in a while, and remembered for readiness."""

import logging
import time
from collections.abc import Callable

from shared.infra.errors import DatabaseFull, TransientError
from shared.infra.sqlstates import cause_of

log = logging.getLogger("api.outages")

PERIOD_S = 60.0
"""A cause is logged at most this often, however many requests meet it."""
FULL_S = 30.0
"""How long a disk counts as full after it refused a write. Small writes may still succeed, so a
write of ours would prove nothing."""
_MOST_CAUSES = 100


class Outages:
    """The 503s of one application."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged: dict[str, tuple[float, int]] = {}
        """By cause: when it was logged, and how often it was met since then."""
        self._full_at: float | None = None

    def note(self, error: TransientError) -> None:
        """Record an error that a request is answered with."""
        now = self._clock()
        if isinstance(error, DatabaseFull):
            self._full_at = now
        cause = ": ".join(filter(None, [error.code, str(error), cause_of(error)]))
        logged_at, n_since = self._logged.get(cause, (None, 0))
        if logged_at is not None and now - logged_at < PERIOD_S:
            self._logged[cause] = (logged_at, n_since + 1)
            return
        if len(self._logged) >= _MOST_CAUSES:
            self._logged.clear()
        self._logged[cause] = (now, 0)
        more = f" ({n_since} more since then)" if n_since else ""
        log.warning("503 %s%s", cause, more)

    def check(self) -> None:
        """Raise what lately refused a request's write.

        Raises:
            DatabaseFull: the disk was full.
        """
        if self._full_at is not None and self._clock() - self._full_at < FULL_S:
            raise DatabaseFull("the disk of Postgres is full")
