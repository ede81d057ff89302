"""The interface of speech engines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from shared.speech.audio import Samples
from shared.speech.chunks import Hypothesis

Device = Literal["auto", "cpu", "cuda"]
"""Where to compute; 'auto' is the GPU if there is one."""

DecodeTask = Literal["transcribe", "translate", "detect"]
"""Words in the language spoken, words in English, or the language without words."""

SILENCE_PEAK = 1e-4
"""Peak below which an item is silence: -80 dBFS, 3 steps of 16-bit audio. Networks must not hear
it, as they normalise it to noise or invent words for it."""


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How to decode. Hashable, as the batcher groups chunks by it."""

    language: str | None = None
    """ISO 639 code; None: the model detects it, or knows only one."""
    task: DecodeTask = "transcribe"
    """Always 'transcribe' for engines that neither translate nor detect."""
    prompt: str | None = None
    """Text whose style and spelling to continue; always None for engines without prompts."""
    hotwords: str | None = None
    """Words to expect; always None for engines without prompts."""
    beam_size: int = 5


def is_silent(samples: Samples) -> bool:
    """Whether an item, of shape (n_samples,), is silence or empty."""
    return not samples.size or float(np.abs(samples).max()) < SILENCE_PEAK


class Engine(Protocol):
    """A loaded model. The constructor loads it and raises ``ModelError``."""

    device: str
    """'cpu' or 'cuda'."""
    dtype: str
    """What the device computes in, such as 'float32', 'float16' or 'int8'."""
    version: str
    """The engine's library and its version, such as 'pocketsphinx 5.1.1'."""
    weights_digest: str
    """'sha256:...' of the weights' files; equal weights have equal digests."""
    max_batch: int
    """The most chunks that one call should have; 1 where batches are no faster."""

    def transcribe(self, batch: Sequence[Samples], options: DecodeOptions) -> list[Hypothesis]:
        """Return one hypothesis per item, in the batch's order.

        Each item is mono float32 of shape (n_samples,) at 16 kHz. Word times are samples from the
        item's start, within [0, n_samples], non-decreasing. Silence gives no words. A word's
        confidence is a probability in [0, 1] that the engine computed, never a placeholder; None
        where it computes none. Any thread may call, one at a time.

        Raises:
            DeviceOutOfMemory: the batch did not fit; a smaller one may.
            ModelError: the model cannot do this.
            EngineFailed: the engine broke down; perhaps every later call fails as well.
        """
        ...
