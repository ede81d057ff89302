"""Progress on stderr as lines that stay, for logs and pipes; a terminal gets a moving block."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from cli.messages import note, one_line
from cli.progress.figures import Total

TRANSCRIBING = "transcribing"
"""The phase whose fraction is that of the audio. A terminal shows the percentage instead."""
TOTAL_EVERY_S = 30.0


class Progress:
    """Shows how far things are; safe to call from several threads.

    There is one line per change of phase, and the total every TOTAL_EVERY_S.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._phases: dict[str, str] = {}
        self._lock = threading.Lock()
        self._clock = clock
        self._told_s = clock()

    def say(self, line: str) -> None:
        """Show a line that stays."""
        # The terminal may be gone. That must not keep the work from ending cleanly.
        with suppress(OSError):
            sys.stderr.write(line + "\n")  # one write: several threads say something
            sys.stderr.flush()

    def show(self, name: str, phase: str, fraction: float | None = None, detail: str = "") -> None:
        """Show that ``name``, a file or a model, is in ``phase``, a word.

        ``fraction`` of the phase is done, in [0, 1]; None: it is not known.
        """
        del fraction
        with self._lock:
            if self._phases.get(name) == phase:
                return
            self._phases[name] = phase
        self.say(one_line(f"{name}: {phase}{f' ({detail})' if detail else ''}"))

    def leave(self, name: str, phase: str, detail: str = "", *, line: bool = True) -> None:
        """Show that ``name`` has ended; without ``line`` a block that moves keeps no line of it."""
        del line
        self.show(name, phase, None, detail)

    def total(self, total: Total) -> None:
        """Show how far the whole batch is; to be called about once a second."""
        if self._clock() - self._told_s >= TOTAL_EVERY_S:
            self._told_s = self._clock()
            self.say(note(f"{int(total.fraction * 100)} %: {total}"))

    def aside(self, write: Callable[[], None]) -> None:
        """Run ``write``, which writes to stdout: that may be the same terminal."""
        write()

    def finish(self) -> None:
        """Remove what moves. Only lines may follow."""


@contextmanager
def progress_on_stderr() -> Iterator[Progress]:
    """Yield progress for stderr: a block on a terminal that can move its cursor, else lines.

    The block is gone when the with-statement ends.
    """
    if not sys.stderr.isatty():
        yield Progress()
        return
    # Imported late: rich takes a tenth of a second, which logs and pipes need not wait for.
    from rich.console import Console

    from cli.progress.terminal import TerminalProgress

    console = Console(stderr=True)
    progress = Progress() if console.is_dumb_terminal else TerminalProgress(console)
    try:
        yield progress
    finally:
        progress.finish()
