"""Warnings about what may happen thousands of times a second: logged once in a while."""

import logging
import time
from collections.abc import Callable

PERIOD_S = 60.0


class RareWarning:
    """Logs a warning at most once in ``PERIOD_S``, with how often it was due meanwhile."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._logged_at: float | None = None
        self._n_since = 0

    def __call__(self, text: str) -> None:
        """Log the text, or count it."""
        now = self._clock()
        if self._logged_at is not None and now - self._logged_at < PERIOD_S:
            self._n_since += 1
            return
        more = f" ({self._n_since} more since the last such line)" if self._n_since else ""
        self._log.warning("%s%s", text, more)
        self._logged_at, self._n_since = now, 0
