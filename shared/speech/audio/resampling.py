"""Streams of samples at any rate, brought to the one rate of speech here."""

import math

import numpy as np

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples


class Resampler:
    """Brings a stream to SAMPLE_RATE by a windowed sinc; pieces join without a seam.

    The filter keeps what lies below 7 kHz and leaves nothing above 9 kHz. Output lags input by
    ``ZERO_CROSSINGS`` samples of the lower rate.
    """

    ZERO_CROSSINGS = 16
    """Of the sinc, on each side of an output sample."""

    def __init__(self, rate: int) -> None:
        """Begin a stream of ``rate`` samples per second."""
        # Output sample k lies at input position k * n_in / n_out, so there are n_out kernels.
        divisor = math.gcd(rate, SAMPLE_RATE)
        self._n_in, self._n_out = rate // divisor, SAMPLE_RATE // divisor
        step = rate / SAMPLE_RATE
        cutoff = min(1.0, 0.95 / step)  # relative to half the input's rate
        reach = self.ZERO_CROSSINGS / cutoff
        self._taps = np.arange(-math.ceil(reach), math.ceil(reach) + 2)
        distances = self._taps - np.arange(self._n_out)[:, None] / self._n_out
        window = 0.5 + 0.5 * np.cos(np.pi * np.minimum(np.abs(distances) / reach, 1.0))
        self._kernels = (cutoff * np.sinc(distances * cutoff) * window).astype(np.float32)
        self._samples = np.zeros(-self._taps[0], np.float32)
        self._at = len(self._samples) * self._n_out
        """Position of the next output sample in ``_samples``, times ``n_out``."""

    def push(self, samples: Samples) -> Samples:
        """Take samples, and return those that can be told by now; shapes (n_samples,)."""
        self._samples = np.concatenate([self._samples, samples])
        end = (len(self._samples) - int(self._taps[-1])) * self._n_out
        positions = np.arange(self._at, max(self._at, end), self._n_in)
        taps = (positions // self._n_out)[:, None] + self._taps
        kernels = self._kernels[positions % self._n_out]
        output: Samples = np.einsum("ij,ij->i", self._samples[taps], kernels)
        self._at += self._n_in * len(positions)
        done = self._at // self._n_out + int(self._taps[0])
        self._samples = self._samples[done:]
        self._at -= done * self._n_out
        return output

    def rest(self) -> Samples:
        """Return what the stream's end has kept back."""
        return self.push(np.zeros(len(self._taps), np.float32))


class PcmResampler:
    """The same for a stream of bytes, s16le in and out; a sample may be split between pieces."""

    def __init__(self, rate: int) -> None:
        self._resampler = Resampler(rate)
        self._odd = b""

    def push(self, pcm: bytes) -> bytes:
        """Take bytes, and return the audio that can be told by now."""
        data = self._odd + pcm
        n_samples = len(data) // 2
        self._odd = data[2 * n_samples :]
        samples = np.frombuffer(data, "<i2", n_samples).astype(np.float32) / np.float32(32768)
        return s16le(self._resampler.push(samples))


def s16le(samples: Samples) -> bytes:
    """Return samples as 16-bit integers; those beyond full scale are clipped."""
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()
