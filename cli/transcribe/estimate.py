"""The time that a batch still takes."""

import math

WARM_UP_S = 15.0
"""There is no estimate before: the first chunks of a batch end in bursts."""
SPEED_S = 60.0
"""Time constant of the mean speed: several times what a slow model takes for a chunk."""
TOLD_S = 5.0
"""Time constant with which the estimate told follows the one computed."""


class Estimate:
    """The time that a batch still takes, as steady as a clock.

    The speed is an exponentially weighted mean over about SPEED_S. The estimate told counts down
    in real time and moves towards the one computed from the speed within about TOLD_S. Otherwise it
    would jump whenever chunks or files end in a burst.
    """

    def __init__(self) -> None:
        self.eta_s: float | None = None
        """Seconds until all is done at this speed; None while they cannot be estimated."""
        self._began_s: float | None = None
        self._at_s = 0.0
        self._done = 0.0
        self._recent_work = 0.0
        self._recent_time = 0.0

    def observe(self, now_s: float, done: float, total: float) -> None:
        """Take note of how much is done of ``total``, which may change, in any unit."""
        if self._began_s is None:
            if done > 0:  # the time before, such as the load of a model, says nothing of speed
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
        if self.eta_s is None:
            self.eta_s = found
            return
        expected = max(0.0, self.eta_s - elapsed_s)
        self.eta_s = expected + (found - expected) * (1 - math.exp(-elapsed_s / TOLD_S))
