"""The end of a model worker whose engine hangs."""

import logging
import os
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

EXIT_HUNG = 70
"""Exit status of a worker that ended itself: EX_SOFTWARE of sysexits.h."""


class Watchdog:
    """Ends the process when a single engine call lasts longer than ``limit_s``.

    A hung call cannot be interrupted, and its thread would hold the leases of its chunks for ever.
    Enter the context for each call, one at a time. The time that chunks wait for their call does
    not count, so a long queue ends nobody.
    """

    def __init__(
        self,
        limit_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        end_process: Callable[[int], object] = os._exit,
    ) -> None:
        """Start the thread that watches.

        Args:
            limit_s: the longest that a call may last; ``inf``: for ever.
            clock: seconds, from any origin.
            end_process: called once, with ``EXIT_HUNG``.
        """
        self._limit_s = limit_s
        self._clock = clock
        self._end_process = end_process
        self._changed = threading.Condition()
        self._begun: float | None = None
        """When the current call began; None between calls."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def __enter__(self) -> None:
        with self._changed:
            self._begun = self._clock()
            self._changed.notify()

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._begun = None

    def _watch(self) -> None:
        with self._changed:
            while True:
                if self._begun is None:
                    self._changed.wait()
                    continue
                left_s = self._begun + self._limit_s - self._clock()
                if left_s <= 0:
                    break
                # The call that began by then may be another one: look again.
                self._changed.wait(min(left_s, threading.TIMEOUT_MAX))
        log.critical("an engine call lasts longer than %g s: the worker ends itself", self._limit_s)
        self._end_process(EXIT_HUNG)
