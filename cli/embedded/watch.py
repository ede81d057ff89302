"""Finds children that run but hang. A thread looks at each; the supervisor restarts it.

A frozen process keeps its pid, and the kernel still accepts connections for it. So each child that
can hang is asked for a sign of life every few seconds. A restart costs the work in hand, and does
not help a machine that is merely slow. A false restart is worse than a late one, so the limits are
long.
"""

import threading
import time
from collections.abc import Callable

LOOK_EVERY_S = 5.0
"""From the start of one look to the start of the next."""
LOOK_LIMIT_S = 5.0
"""How long a look waits for an answer, which takes a millisecond on an idle machine."""
MISSED_LOOKS = 12
"""A child hangs after so many looks in a row without a sign of life: a minute. On a machine that
swaps or has a busy disk, answers take seconds, but some of them come.

Looks are counted instead of seconds, because this process may be stopped itself (by Ctrl-Z, or with
the whole machine). Then at most one look is missed."""
MISSED_LOOKS_AT_START = 60
"""The same for a child that has given no sign since its start: five minutes, which a large model on
a slow disk may take to load, and Postgres to recover from a crash."""

Look = Callable[[int], bool | None]
"""Asks the process with this pid for a sign of life.

True: it is up. False: it gives no sign. None: it is starting, or nobody can tell."""


class Vitals:
    """What the looks at one process have shown."""

    def __init__(self, *, was_up: bool) -> None:
        self._was_up = was_up
        self._missed = 0

    def note(self, sign: bool | None) -> None:
        """Count a look; one that could not tell is no missed one."""
        self._missed = self._missed + 1 if sign is False else 0
        self._was_up = self._was_up or sign is True

    @property
    def hung(self) -> bool:
        """Whether too many looks in a row were missed."""
        return self._missed >= (MISSED_LOOKS if self._was_up else MISSED_LOOKS_AT_START)


class Watch:
    """Looks at a program's process and its successors, in a thread of its own.

    A look may block, and the main thread must be free for signals.
    """

    def __init__(self, look: Look, pid: int, *, every_s: float = LOOK_EVERY_S) -> None:
        """Watch a process that is known to be up."""
        self._look = look
        self._every_s = every_s
        self._lock = threading.Lock()
        self._pid: int | None = pid
        self._vitals = Vitals(was_up=True)
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def follow(self, pid: int | None) -> None:
        """From now on look at this process, which has just been started; None: at none."""
        with self._lock:
            self._pid = pid
            self._vitals = Vitals(was_up=False)

    @property
    def finds_hung(self) -> bool:
        """Whether the process hangs."""
        with self._lock:
            return self._vitals.hung

    def end(self) -> None:
        """Look no more; do not wait for a look under way."""
        self._ended.set()

    def _run(self) -> None:
        pause_s = self._every_s
        while not self._ended.wait(pause_s):
            began_s = time.monotonic()
            with self._lock:
                pid = self._pid
            if pid is not None:
                sign = self._look(pid)
                with self._lock:
                    if pid == self._pid:  # it was not restarted meanwhile
                        self._vitals.note(sign)
            pause_s = max(0.0, self._every_s - (time.monotonic() - began_s))
