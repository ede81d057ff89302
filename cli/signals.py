"""The signals that end a terminal session, as one flag that the main thread polls.

An exception could be raised between the start of a child and the note of its pid, and the child
would be lost.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL_S = 0.02


class StopFlag:
    """Whether, and how urgently, this process was asked to stop."""

    def __init__(self) -> None:
        self.signum: int | None = None
        """The first signal received."""
        self.urgent = False
        """A second signal came: stop at once."""

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Raise the flag on SIGINT, SIGTERM and SIGHUP. Main thread only."""
        before = {signum: signal.signal(signum, self._raise_flag) for signum in STOP_SIGNALS}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _raise_flag(self, signum: int, frame: FrameType | None) -> None:
        del frame
        if self.signum is None:
            self.signum = signum
        elif signum == signal.SIGINT:
            # Ctrl-C only: a terminal that closes sends SIGHUP, and its shell then sends SIGTERM.
            self.urgent = True

    def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until the flag goes up."""
        deadline = time.monotonic() + seconds
        while self.signum is None and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, POLL_S))

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Wait until ``done()``; raise ``Stopped`` if the flag goes up first."""
        while not done():
            self.check()
            self.sleep(0.1)

    def check(self) -> None:
        """Raise ``Stopped`` if the flag is up."""
        if self.signum is not None:
            raise Stopped(self.signum)


class Stopped(Exception):
    """A signal asked this process to stop; raised only where ``StopFlag.check`` is called."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum
