"""The end of a model worker whose engine hangs."""

import logging
import os
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

EXIT_HUNG = 70
"""Exit status of a worker that ended itself: EX_SOFTWARE of sysexits.h."""

_LOOK_S = 1.0
"""Between two looks at the call under way."""


class Watchdog:
    """Ends the process when a single engine call lasts longer than ``limit_s``.

    A hung call cannot be interrupted, and its thread would hold the leases of its chunks for ever.
    Enter the context for each call, one at a time. The time that chunks wait for their call does
    not count, so a long queue ends nobody.
    """

    def __init__(self, limit_s: float, *, end_process: Callable[[int], object] = os._exit) -> None:
        """Start the thread that watches; a limit of ``inf`` never ends a call."""
        self._limit_s = limit_s
        self._end_process = end_process
        self._begun: float | None = None
        """When the current call began; None between calls."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def __enter__(self) -> None:
        self._begun = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._begun = None

    def is_overdue(self) -> bool:
        """Return whether the call under way, if any, lasts longer than the limit."""
        begun = self._begun
        return begun is not None and time.monotonic() - begun >= self._limit_s

    def _watch(self) -> None:
        while not self.is_overdue():
            time.sleep(min(_LOOK_S, self._limit_s))
        log.critical("an engine call lasts longer than %g s: the worker ends itself", self._limit_s)
        self._end_process(EXIT_HUNG)
