"""NeMo's log mel energies as Sortformer hears them: not normalized.

The same as those of NeMo's AudioToMelSpectrogramPreprocessor with ``normalize: NA``, without
dither. Its mel bands are Slaney's, as librosa computes them.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples

STEP_SAMPLES = SAMPLE_RATE * 10 // 1000
FRAME_SAMPLES = SAMPLE_RATE * 25 // 1000
PREEMPHASIS = 0.97
LEAST_ENERGY = 2.0**-24
"""Is added before the logarithm."""
_FFT_SAMPLES = 512
_BLOCK_FRAMES = 1000
"""Frames computed at once: 10 s."""
_LINEAR_HZ, _LINEAR_MELS, _LOG_STEP = 1000.0, 15.0, np.log(6.4) / 27
"""Slaney's scale is linear up to 1 kHz, which is 15 mels, and logarithmic above."""


def nemo_features(samples: Samples, n_mels: int) -> npt.NDArray[np.float32]:
    """Return the features of frames every 10 ms, shape (n_samples // 160, n_mels)."""
    before = np.concatenate([np.zeros(1, np.float32), samples[:-1]])
    sharpened = np.asarray(samples - np.float32(PREEMPHASIS) * before, np.float32)
    sharpened = np.pad(sharpened, _FFT_SAMPLES // 2)
    windows = np.lib.stride_tricks.sliding_window_view(sharpened, _FFT_SAMPLES)
    frames = windows[::STEP_SAMPLES][: len(samples) // STEP_SAMPLES]
    blocks = range(0, len(frames), _BLOCK_FRAMES)
    found = [_block(frames[each : each + _BLOCK_FRAMES], n_mels) for each in blocks]
    return np.concatenate(found or [np.zeros((0, n_mels), np.float32)])


def _block(frames: npt.NDArray[np.float32], n_mels: int) -> npt.NDArray[np.float32]:
    around = (_FFT_SAMPLES - FRAME_SAMPLES) // 2
    spectrum = np.fft.rfft(frames * np.pad(np.hanning(FRAME_SAMPLES), around))
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    return np.log(power @ _mel_bands(n_mels) + LEAST_ENERGY).astype(np.float32)


@cache
def _mel_bands(n_mels: int) -> npt.NDArray[np.float64]:
    """Return triangles of equal areas; shape (n_frequencies, n_mels)."""
    edges = _hertz(np.linspace(0, _mels(SAMPLE_RATE / 2), n_mels + 2))
    hertz = np.fft.rfftfreq(_FFT_SAMPLES, 1 / SAMPLE_RATE)[:, np.newaxis]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (hertz - left) / (centre - left), (right - hertz) / (right - centre)
    triangles = np.maximum(0, np.minimum(rising, falling)) * 2 / (right - left)
    return np.asarray(triangles, np.float64)


def _mels(hertz: float) -> float:
    """Return a frequency above 1 kHz in mels."""
    return float(_LINEAR_MELS + np.log(hertz / _LINEAR_HZ) / _LOG_STEP)


def _hertz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    linear = mels * (_LINEAR_HZ / _LINEAR_MELS)
    logarithmic = _LINEAR_HZ * np.exp(_LOG_STEP * (mels - _LINEAR_MELS))
    return np.where(mels < _LINEAR_MELS, linear, logarithmic)
