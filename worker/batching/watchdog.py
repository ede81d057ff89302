"""The end of a model worker whose engine hangs."""

import logging
import os
import threading
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

    def __init__(self, limit_s: float, *, end_process: Callable[[int], object] = os._exit) -> None:
        """``limit_s``: the longest that a call may last; ``inf``: for ever."""
        self._limit_s = limit_s
        self._end_process = end_process

    def __enter__(self) -> None:
        self._timer = threading.Timer(min(self._limit_s, threading.TIMEOUT_MAX), self._end)
        self._timer.daemon = True
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        log.critical("an engine call lasts longer than %g s: the worker ends itself", self._limit_s)
        self._end_process(EXIT_HUNG)
