"""How likely it is that somebody speaks, window by window."""

from typing import Protocol

import numpy as np

from shared.speech.audio.samples import Pcm
from shared.speech.audio.silero import WINDOW_SAMPLES, SileroNetwork
from shared.speech.names import VadName

_LEAST_PEAK = 0.03
_MOST_GAIN = 300.0
_PEAK_LASTS = 0.98 ** (1 / 16)
"""Quiet audio is judged as if its peaks were at -30 dBFS, as ``SileroVad`` does; a peak is
forgotten, by 20 dB, in a minute."""
_MUTED_WINDOWS = 32
"""After a second of digital silence the network is not asked: a muted microphone sends zeros."""
_QUIETEST_DBFS, _LOUDEST_DBFS = -60.0, -40.0
"""Levels with the scores 0 and 1: -50 dBFS, the default of ``EnergyVad``, has 0.5."""


class Scorer(Protocol):
    """Scores the windows of one stream, in order."""

    def score(self, window: Pcm) -> float:
        """Return a score in [0, 1] of the next WINDOW_SAMPLES."""
        ...

    def reset(self) -> None:
        """Forget what was heard, apart from the level."""
        ...


def make_scorer(name: VadName) -> Scorer:
    """Return a new scorer.

    Raises:
        ModelError: the Silero model is not installed.
    """
    scorers: dict[VadName, type[Scorer]] = {
        "silero": SileroScorer,
        "energy": EnergyScorer,
        "off": EverythingScorer,
    }
    return scorers[name]()


class SileroScorer:
    """The probability of speech by the Silero network. A window takes about 70 us."""

    def __init__(self) -> None:
        self._network = SileroNetwork()
        self._peak = 0.0
        self._n_zeros = 0
        """Windows of zeros in a row."""

    def score(self, window: Pcm) -> float:
        loudest = int(np.abs(window.astype(np.int32)).max()) / 32768
        self._n_zeros = 0 if loudest else self._n_zeros + 1
        if self._n_zeros > _MUTED_WINDOWS:
            return 0.0
        self._peak = max(loudest, self._peak * _PEAK_LASTS)
        gain = max(1.0, min(_LEAST_PEAK / max(self._peak, 1e-9), _MOST_GAIN))
        samples = window.astype(np.float32) * np.float32(gain / 32768)
        return float(self._network(samples.reshape(1, WINDOW_SAMPLES))[0])

    def reset(self) -> None:
        self._network.reset()


class EnergyScorer:
    """The level of a window."""

    def score(self, window: Pcm) -> float:
        power = float(np.square(window / 32768.0).mean())
        level_dbfs = 10 * np.log10(power + 1e-12)
        share = (level_dbfs - _QUIETEST_DBFS) / (_LOUDEST_DBFS - _QUIETEST_DBFS)
        return float(min(1.0, max(0.0, share)))

    def reset(self) -> None:
        """Nothing is remembered."""


class EverythingScorer:
    """Takes everything for speech."""

    def score(self, window: Pcm) -> float:  # noqa: ARG002
        return 1.0

    def reset(self) -> None:
        """Nothing is remembered."""
