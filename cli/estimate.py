"""How fast a batch goes, and how long it still takes."""

import math

WARM_UP_S = 15.0
"""Nothing is told before: the first chunks of a batch come in bursts."""
SPEED_S = 60.0
"""Time constant of the mean speed: long against the pauses between two chunks of a slow model."""
TOLD_S = 5.0
"""Time constant with which what is told follows what was found."""


class Estimate:
    """The time that a batch still takes, told so that people can rely on it.

    The speed is the work of the last minute or so, by its time, each moment weighing less the
    longer ago it is. What is told counts down as a clock does, and moves to what follows from the
    speed only slowly: chunks and files end in bursts, of which each would make it jump.
    """

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._at_s = 0.0
        self._done = 0.0
        self._recent_work = 0.0
        self._recent_time = 0.0
        self._told: float | None = None

    def observe(self, now_s: float, done: float, total: float) -> None:
        """Take note of how much is done.

        Args:
            now_s: a clock's time, in seconds; never falls.
            done: work done, in whatever unit.
            total: all there is; may change, as it may itself be estimated.
        """
        if self._began_s is None:
            if done > 0:  # what was before, such as a model that loads, is no speed
                self._began_s, self._at_s, self._done = now_s, now_s, done
            return
        elapsed_s = now_s - self._at_s
        fading = math.exp(-elapsed_s / SPEED_S)
        self._recent_work = self._recent_work * fading + max(0.0, done - self._done)
        self._recent_time = self._recent_time * fading + elapsed_s
        self._at_s, self._done = now_s, done
        if now_s - self._began_s < WARM_UP_S or self._recent_work <= 0:
            return
        found = max(0.0, total - done) * self._recent_time / self._recent_work
        if self._told is None:
            self._told = found
            return
        expected = max(0.0, self._told - elapsed_s)
        self._told = expected + (found - expected) * (1 - math.exp(-elapsed_s / TOLD_S))

    @property
    def eta_s(self) -> float | None:
        """Seconds until all is done, if it goes on like this; None while nobody can tell."""
        return self._told
