"""The words in which the stages of the worker talk about audio.

Everything inside the worker counts in samples of the original timeline at 16 kHz: integers add up
exactly over ten hours, seconds do not. Seconds appear at the wire only.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000
"""Samples per second of all audio after decoding; every engine we use was trained on it."""

Samples = npt.NDArray[np.float32]
"""Mono audio, shape (n_samples,), in [-1, 1], at SAMPLE_RATE."""

Pcm = npt.NDArray[np.int16]
"""Mono audio, shape (n_samples,), s16le at SAMPLE_RATE: the form in which audio is stored."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where speech is: samples [start, end) of the original timeline."""

    start: int
    end: int

    @property
    def n_samples(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Chunk:
    """One unit of inference: [start, end) is heard, words in [core_start, core_end) are kept.

    The strides on both sides are context that neighbours hear too; cores never overlap.
    """

    index: int
    core_start: int
    core_end: int
    stride_left: int
    stride_right: int
    channel: int | None = None
    """The channel it was cut from; None where all were mixed down to one."""

    @property
    def start(self) -> int:
        return self.core_start - self.stride_left

    @property
    def end(self) -> int:
        return self.core_end + self.stride_right

    @property
    def n_samples(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class WordHypothesis:
    """A word as an engine heard it; start and end in samples from the chunk's first sample."""

    text: str
    start: int
    end: int
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """An engine's raw output for one chunk: words in time order, and the language it heard."""

    words: tuple[WordHypothesis, ...]
    language: str | None = None
    """ISO 639 code: the one given, else the one detected; None where nothing was detected."""
    language_probability: float | None = None
    """In [0, 1], of a detected language; None where the language was given."""
    loop_suspected: bool = False
    """The engine repeated itself, and decoding it again in other ways did not help."""
