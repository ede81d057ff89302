"""How long an engine call takes, by what recent calls took."""

import math

_DECAY = 0.95
"""Weight of a call after each later one."""
_LEAST_SPREAD = 0.01
"""Variance of the sizes, as a share of their mean's square, from which a slope can be fitted."""
_WORTHWHILE = 1.5
"""A call may take this many times as long as one of a single window, whatever the bound is: where a
call has a high fixed cost, smaller calls would only add up to more time."""


class CallCosts:
    """Predicts seconds as ``a + b * windows``, by least squares over recent calls.

    While all calls had the same size there is no slope to fit; the time is then taken to be
    proportional to the size.
    """

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0

    def note(self, windows: int, seconds: float) -> None:
        """A call of so many windows took so long."""
        self._n = self._n * _DECAY + 1
        self._x = self._x * _DECAY + windows
        self._y = self._y * _DECAY + seconds
        self._xx = self._xx * _DECAY + windows * windows
        self._xy = self._xy * _DECAY + windows * seconds

    def predict(self, windows: int) -> float | None:
        """Return the seconds of a call; None before the first one was noted."""
        if not self._n:
            return None
        fixed, slope, _ = self._fit()
        return fixed + slope * windows

    def most_within(self, seconds: float) -> int | None:
        """Return the size of the largest call within the time, at least 1; None: not known yet."""
        single = self.predict(1)
        if single is None:
            return None
        fixed, slope, is_fitted = self._fit()
        bound = max(seconds, _WORTHWHILE * single)
        most = math.inf if slope <= 0 else (bound - fixed) / slope
        if not is_fitted and self._y <= seconds * self._n:
            # Only a larger call shows what a larger call costs.
            most = max(most, self._x / self._n + 1)
        return max(1, int(min(most, 1e6)))

    def _fit(self) -> tuple[float, float, bool]:
        """Return the fixed cost, the cost of a window, and whether the two could be told apart."""
        x, y = self._x / self._n, self._y / self._n
        spread = self._xx / self._n - x * x
        if spread < _LEAST_SPREAD * x * x:
            return 0.0, y / x, False
        slope = (self._xy / self._n - x * y) / spread
        slope = min(max(slope, 0.0), y / x)
        return y - slope * x, slope, True
