"""Types of audio in memory: arrays of samples, and spans of speech in them.

Positions are samples of the original timeline, as in ``shared.speech.chunks``.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
"""Mono audio, shape (n_samples,), in [-1, 1], at ``shared.speech.chunks.SAMPLE_RATE``."""

Pcm = npt.NDArray[np.int16]
"""Mono audio, shape (n_samples,), s16le at the same rate: how decoded audio is stored."""


@dataclass(frozen=True, slots=True)
class Span:
    """A span of speech: samples [start, end) of the original timeline."""

    start: int
    end: int
