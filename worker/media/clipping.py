"""The share of a recording that is clipped: cut off flat, as it is louder than its format can hold.

Clipped audio that a lossy codec encoded afterwards is no longer flat, and mostly goes unnoticed.
"""

import numpy as np

from shared.speech.audio.samples import Pcm

FULL_SCALE = 32_440
"""99 % of the largest s16 value, as resampling makes a flat top slightly wavy."""
MIN_RUN_SAMPLES = 3
"""So many samples at full scale are a flat top. One or two are the peak of a recording that was
normalised to full scale."""


class ClippingMeter:
    """Counts a stream's samples that lie in runs of MIN_RUN_SAMPLES or more at full scale."""

    def __init__(self) -> None:
        self._n_samples = 0
        self._n_clipped = 0
        self._last = np.zeros(MIN_RUN_SAMPLES, np.bool_)
        """Whether each of the last samples is at full scale."""

    @property
    def share(self) -> float:
        """Clipped share of the samples pushed so far, in [0, 1]."""
        return self._n_clipped / self._n_samples if self._n_samples else 0.0

    def push(self, block: Pcm) -> None:
        """Take the next samples, shape (n_samples,)."""
        self._n_samples += len(block)
        # Not abs: the magnitude of -32768 does not fit 16 bits.
        full = np.concatenate([self._last, (block >= FULL_SCALE) | (block <= -FULL_SCALE)])
        self._last = full[-MIN_RUN_SAMPLES:]
        # For each sample, from the last one before the block: does it end a run of that length?
        in_run = np.convolve(full, np.ones(MIN_RUN_SAMPLES, int), "valid") == MIN_RUN_SAMPLES
        # The sample that completes a run counts the samples before it, too.
        n_runs_begun = np.count_nonzero(in_run[1:] & ~in_run[:-1])
        self._n_clipped += int(np.count_nonzero(in_run[1:]) + n_runs_begun * (MIN_RUN_SAMPLES - 1))
