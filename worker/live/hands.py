"""The live requests that a worker has in hand, and how long it takes to answer one."""

import threading
import time
from collections.abc import Callable

from shared.speech.live.requests import LiveKind

_WEIGHT = 0.1
"""Of the last request, in the means."""


class Hands:
    """Which requests were taken and not answered yet. Any thread may call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.suspect: str | None = None
        """The request that is heard alone now."""
        self.means_s: dict[LiveKind, float] = {}
        """Mean time from taking a request to its answer."""
        self._clock = clock
        self._taken: dict[str, float] = {}
        self._left: set[str] = set()
        self._changed = threading.Condition()

    def take(self, request: str) -> bool:
        """Note a request; return False if this worker has it already: it was sent again."""
        with self._changed:
            if request in self._taken:
                return False
            self._taken[request] = self._clock()
            return True

    def note_answer(self, request: str, kind: LiveKind) -> None:
        """The request has an answer, which is still to be sent."""
        with self._changed:
            took_s = self._clock() - self._taken[request]
            mean_s = self.means_s.get(kind, took_s)
            self.means_s[kind] = mean_s + _WEIGHT * (took_s - mean_s)

    def leave(self, request: str) -> None:
        """This worker will not answer the request; another one gets it when this one has ended."""
        with self._changed:
            self._left.add(request)
            self._changed.notify_all()

    def drop(self, request: str) -> None:
        """The answer was sent, or nobody waits for it any more."""
        with self._changed:
            self._taken.pop(request, None)
            self._changed.notify_all()

    def ids(self) -> list[str]:
        """Return what is in hand."""
        with self._changed:
            return [*self._taken]

    def await_empty(self, within_s: float) -> bool:
        """Wait until nothing is in hand but what was left; return whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._taken.keys() <= self._left, within_s)
