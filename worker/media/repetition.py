"""Sound that is heard a second time: joined segments of a stream may overlap."""

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Channels
from worker.media.resampler import Resampler

_REMEMBERED_BLOCKS = 30
"""So far back a repetition is looked for; a block is a second."""
_COMPARED_S = 1.0
_SEARCHED_S = 0.06
"""A repetition may lie so far from where the stamps say."""
_ALIKE = 0.9
"""Least correlation of a repetition with what was heard before."""
_MIN_REPEAT_S = 0.1
"""Shorter repetitions stay: the time map says when they are."""
_SILENT_RMS = 1e-3 * 32768
"""Of s16 samples. Silence is like all silence, so it is no repetition."""


class RecentSound:
    """The last half minute of the sound that was decoded."""

    def __init__(self) -> None:
        self._blocks: deque[Channels] = deque(maxlen=_REMEMBERED_BLOCKS)

    def push(self, block: Channels) -> None:
        """Take the next second, shape (n_channels, n_samples)."""
        self._blocks.append(block)

    def repeated_s(
        self, pending: Sequence[Channels], frames: Sequence[AudioFrame], back_s: float
    ) -> float:
        """Return how many seconds of frames repeat what was heard before; 0: they do not.

        Args:
            pending: sound that follows the blocks taken.
            frames: what follows that.
            back_s: how far the frames' stamps go back.
        """
        if back_s < _MIN_REPEAT_S - _SEARCHED_S or not (self._blocks or pending):
            return 0.0
        heard = _mono([*self._blocks, *pending])
        again = _mono(_resampled(frames))[: round(min(back_s, _COMPARED_S) * SAMPLE_RATE)]
        search = round(_SEARCHED_S * SAMPLE_RATE)
        first = len(heard) - round(back_s * SAMPLE_RATE) - search
        part = heard[max(0, first) : first + len(again) + 2 * search]
        if first < -search or len(part) < len(again) or not len(again):
            return 0.0
        own = float(np.square(again, dtype=np.float64).sum())
        if own < len(again) * _SILENT_RMS**2:
            return 0.0
        products = np.correlate(part, again, "valid")
        sums = np.cumsum(np.concatenate([[0.0], np.square(part, dtype=np.float64)]))
        energies = sums[len(again) :] - sums[: -len(again)]
        alike = products / np.sqrt(np.maximum(energies * own, 1e-3))
        best = int(alike.argmax())
        repeated_s = (len(heard) - max(0, first) - best) / SAMPLE_RATE
        return repeated_s if alike[best] >= _ALIKE and repeated_s >= _MIN_REPEAT_S else 0.0


def _resampled(frames: Sequence[AudioFrame]) -> list[Channels]:
    resampler = Resampler(mix=True)
    return [part for frame in frames for part in resampler.push(frame)] + resampler.flush()


def _mono(parts: Sequence[Channels]) -> npt.NDArray[np.float32]:
    """Return the mean of all channels, part after part, shape (n_samples,)."""
    mean = (part.mean(axis=0, dtype=np.float32) for part in parts)
    return np.concatenate([np.zeros(0, np.float32), *mean])
