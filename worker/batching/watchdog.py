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
    Enter the context for each call, and each load of a model that was unloaded; a thread has one at
    a time. The time that chunks wait for their
    call does not count, so a long queue ends nobody.
    """

    def __init__(self, limit_s: float, *, end_process: Callable[[int], object] = os._exit) -> None:
        """Start the thread that watches; a limit of ``inf`` never ends a call."""
        self._limit_s = limit_s
        self._end_process = end_process
        self.begun: dict[int, float] = {}
        """When the call under way began, by the thread that made it."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def __enter__(self) -> None:
        self.begun[threading.get_ident()] = time.monotonic()

    def __exit__(self, *_: object) -> None:
        del self.begun[threading.get_ident()]

    def is_overdue(self) -> bool:
        """Return whether a call under way lasts longer than the limit."""
        now = time.monotonic()
        return any(now - begun >= self._limit_s for begun in self.begun.copy().values())

    def _watch(self) -> None:
        while not self.is_overdue():
            time.sleep(min(_LOOK_S, self._limit_s))
        log.critical("a call lasts longer than %g s: the worker ends itself", self._limit_s)
        self._end_process(EXIT_HUNG)
