"""Audio in memory: the arrays that the stages of the worker hand on, and where speech is in them.

Positions count in samples of the original timeline, as in ``shared.speech.chunks``.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
"""Mono audio, shape (n_samples,), in [-1, 1], at ``shared.speech.chunks.SAMPLE_RATE``."""

Pcm = npt.NDArray[np.int16]
"""Mono audio, shape (n_samples,), s16le at that rate: the form in which audio is stored."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where speech is: samples [start, end) of the original timeline."""

    start: int
    end: int

    @property
    def n_samples(self) -> int:
        return self.end - self.start
