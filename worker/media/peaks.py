"""The peaks of audio, from which a page draws its waveform: some thousand, however long it is."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shared.speech.audio.samples import Pcm

MOST = 4096
"""Peaks of one recording: more than a screen has columns for."""
FIRST_SAMPLES = 160
"""Of a peak at the beginning: 10 ms. It doubles whenever there are ``MOST`` peaks."""
FULL_SCALE = 32_768


class PeakMeter:
    """Takes a stream's peaks, in memory that does not grow with its length."""

    def __init__(self) -> None:
        self._span = FIRST_SAMPLES
        self._peaks = np.zeros(MOST, np.int32)
        self._n = 0
        self._rest: Pcm = np.zeros(0, np.int16)
        """Samples after the last whole span."""

    def push(self, block: Pcm) -> None:
        """Take the next samples, shape (n_samples,)."""
        samples = np.concatenate([self._rest, block])
        while len(samples) >= self._span:
            n_spans = min(len(samples) // self._span, MOST - self._n)
            taken = n_spans * self._span
            self._peaks[self._n : self._n + n_spans] = _peaks(samples[:taken], self._span)
            self._n += n_spans
            samples = samples[taken:]
            if self._n == MOST:
                self._halve()
        self._rest = samples

    def peaks(self) -> npt.NDArray[np.uint8]:
        """Return the peaks so far, shape (n_peaks,), 255 for full scale."""
        found = self._peaks[: self._n]
        if len(self._rest):
            found = np.append(found, _peaks(self._rest, len(self._rest)))
        return (found * 255 // FULL_SCALE).astype(np.uint8)

    def _halve(self) -> None:
        self._n = MOST // 2
        self._peaks[: self._n] = self._peaks.reshape(-1, 2).max(axis=1)
        self._span *= 2


def merge(channels: Sequence[PeakMeter]) -> bytes:
    """Return the peaks of channels together, of which each is as long as the others."""
    found = [channel.peaks() for channel in channels]
    n_peaks = min((len(peaks) for peaks in found), default=0)
    return np.max([peaks[:n_peaks] for peaks in found], axis=0).tobytes() if n_peaks else b""


def _peaks(samples: Pcm, span: int) -> npt.NDArray[np.int32]:
    # Not abs: the magnitude of -32768 does not fit 16 bits.
    parts = samples.reshape(-1, span)
    highest, lowest = parts.max(axis=1).astype(np.int32), parts.min(axis=1).astype(np.int32)
    found: npt.NDArray[np.int32] = np.maximum(highest, -lowest)
    return found
