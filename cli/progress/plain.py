"""Progress as lines that stay, for logs and pipes."""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from cli.messages import note, one_line
from cli.progress.protocol import Total

TOTAL_EVERY_S = 30.0
"""How often the total is told."""


class PlainProgress:
    """One line per change of phase, and the total every TOTAL_EVERY_S."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._phases: dict[str, str] = {}
        self._lock = threading.Lock()
        self._clock = clock
        self._told_s = clock()

    def say(self, line: str) -> None:
        # The terminal may be gone; that must not keep the work from ending cleanly.
        with suppress(OSError):
            sys.stderr.write(line + "\n")  # one write: several threads say something
            sys.stderr.flush()

    def show(self, name: str, phase: str, fraction: float | None = None, detail: str = "") -> None:
        del fraction
        with self._lock:
            if self._phases.get(name) == phase:
                return
            self._phases[name] = phase
        self.say(one_line(f"{name}: {phase}{f' ({detail})' if detail else ''}"))

    def leave(self, name: str, phase: str, detail: str = "", *, line: bool = True) -> None:
        del line
        self.show(name, phase, 1.0, detail)

    def total(self, total: Total) -> None:
        if self._clock() - self._told_s >= TOTAL_EVERY_S:
            self._told_s = self._clock()
            self.say(note(f"{int(total.fraction * 100)} %: {total}"))

    def aside(self, write: Callable[[], None]) -> None:
        write()

    def finish(self) -> None:
        pass
