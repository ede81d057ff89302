"""Types of audio in memory: arrays of samples."""

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
"""Mono audio, shape (n_samples,), in [-1, 1], at ``shared.speech.audio.rate.SAMPLE_RATE``."""

Channels = npt.NDArray[np.int16]
"""Audio of several channels, shape (n_channels, n_samples), at the same rate."""

Pcm = npt.NDArray[np.int16]
"""Mono audio, shape (n_samples,), s16le at the same rate: how decoded audio is stored."""
