"""Kaldi's log mel energies, which speaker networks are trained on.

The same as kaldi-native-fbank's and torchaudio's with 80 bands, without dither.
"""

from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples

FRAME_SAMPLES = SAMPLE_RATE * 25 // 1000
STEP_SAMPLES = SAMPLE_RATE * 10 // 1000
N_MELS = 80
LOW_HZ, HIGH_HZ = 20.0, SAMPLE_RATE / 2
PREEMPHASIS = 0.97
_FFT_SAMPLES = 512
_BLOCK_FRAMES = 1000
"""Frames computed at once, so that memory does not grow with the audio: 10 s."""

Shape = Literal["povey", "hamming"]
"""Of the window over a frame. Kaldi's own is "povey": Hann's, to the power of 0.85."""

Features = npt.NDArray[np.float32]
"""Shape (n_frames, N_MELS)."""


def log_mel_energies(samples: Samples, shape: Shape = "povey") -> Features:
    """Return the features of whole frames, one every 10 ms; none of audio shorter than 25 ms."""
    if len(samples) < FRAME_SAMPLES:
        return np.zeros((0, N_MELS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME_SAMPLES)[::STEP_SAMPLES]
    blocks = range(0, len(frames), _BLOCK_FRAMES)
    return np.concatenate([_block(frames[each : each + _BLOCK_FRAMES], shape) for each in blocks])


def _block(frames: npt.NDArray[np.float32], shape: Shape) -> Features:
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    sharpened = (frames - np.float32(PREEMPHASIS) * before) * _window(shape)
    spectrum = np.fft.rfft(sharpened, _FFT_SAMPLES)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    energies = power @ _mel_bands()
    return np.log(np.maximum(energies, np.finfo(np.float32).eps)).astype(np.float32)


@cache
def _window(shape: Shape) -> npt.NDArray[np.float32]:
    if shape == "hamming":
        return np.hamming(FRAME_SAMPLES).astype(np.float32)
    angles = 2 * np.pi * np.arange(FRAME_SAMPLES) / (FRAME_SAMPLES - 1)
    return ((0.5 - 0.5 * np.cos(angles)) ** 0.85).astype(np.float32)


@cache
def _mel_bands() -> npt.NDArray[np.float32]:
    """Return triangles that are even on the mel scale; shape (n_frequencies, N_MELS)."""
    edges = np.linspace(_mel(LOW_HZ), _mel(HIGH_HZ), N_MELS + 2)
    mels = _mel(np.arange(_FFT_SAMPLES // 2 + 1) * SAMPLE_RATE / _FFT_SAMPLES)[:, np.newaxis]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (mels - left) / (centre - left), (right - mels) / (right - centre)
    triangles = np.maximum(0, np.minimum(rising, falling))
    triangles[-1] = 0  # Kaldi leaves out the highest frequency
    return triangles.astype(np.float32)


def _mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return 1127 * np.log1p(np.asarray(hertz, np.float64) / 700)
