"""Whether a child that runs still does its work: a thread looks, the supervisor decides.

A frozen process keeps its pid, its sockets accept connections, and nothing says that it is gone. So
each child that can hang is asked for a sign of life now and then. A restart costs the work in hand
and helps no machine that is merely slow, so the bounds are far from what load explains: a false
restart is worse than a late one.
"""

import threading
import time
from collections.abc import Callable

LOOK_EVERY_S = 5.0
"""From the begin of one look to the next."""
LOOK_LIMIT_S = 5.0
"""How long a look waits for an answer that takes a millisecond on an idle machine."""
MISSED_LOOKS = 12
"""Looks in a row without a sign of life after which a child counts as hung: a minute. On a machine
that swaps, or whose disk is busy, answers take seconds, but some of them come.

Looks are counted, not seconds: when this process itself was stopped (by Ctrl-Z, or with the whole
machine), all its children seem silent, but one look at most has been missed."""
MISSED_LOOKS_AT_START = 60
"""The same for a child that has given no sign since it was started: five minutes, which a large
model on a slow disk may take to load, and Postgres to recover from a crash."""

Look = Callable[[int], bool | None]
"""Asks the process with this pid for a sign of life.

True: it is up. False: it gives no sign. None: nobody can tell now, or it is still starting."""


class Vitals:
    """What the looks at one process have found."""

    def __init__(self, *, was_up: bool) -> None:
        self._was_up = was_up
        self._missed = 0

    def note(self, sign: bool | None) -> None:
        """Take note of a look; what nobody can tell is not held against the process."""
        self._missed = self._missed + 1 if sign is False else 0
        self._was_up = self._was_up or sign is True

    @property
    def hung(self) -> bool:
        """Whether the process has been silent for longer than load explains."""
        return self._missed >= (MISSED_LOOKS if self._was_up else MISSED_LOOKS_AT_START)


class Watch:
    """Looks at a program's process, and at those that take its place, from a thread of its own.

    A look may block, and the main thread must stay free for signals.
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
        """Look at a process that was just started from now on; None: at none."""
        with self._lock:
            self._pid = pid
            self._vitals = Vitals(was_up=False)

    @property
    def finds_hung(self) -> bool:
        """Whether the process that is followed counts as hung."""
        with self._lock:
            return self._vitals.hung

    def end(self) -> None:
        """Look no more; a look under way is not waited for."""
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
                    if pid == self._pid:  # else it was restarted meanwhile
                        self._vitals.note(sign)
            pause_s = max(0.0, self._every_s - (time.monotonic() - began_s))
