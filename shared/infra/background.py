"""A background thread that works when it is rung, or after a time that it chose."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Background:
    """Does its work in a thread, so that no caller of ``ring`` waits for it.

    All rings during a round are answered by one further round.
    """

    def __init__(self, name: str, work: Callable[[], float | None]) -> None:
        """Start the thread; ``work`` handles the errors that it expects.

        It returns in how many seconds it is to be called again if nobody rings; None: not at all.
        """
        self._work = work
        self._rung = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def ring(self) -> None:
        """Ask for a round; returns at once."""
        self._rung.set()

    def close(self, timeout_s: float = 5.0) -> None:
        """Answer the last ring and stop."""
        self._closing = True
        self._rung.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        pause_s = None
        while not self._closing or self._rung.is_set():
            self._rung.wait(pause_s)
            self._rung.clear()
            pause_s = None
            try:
                pause_s = self._work()
            except Exception:  # a bug must not end the thread
                log.exception("%s: unexpected error", self._thread.name)
