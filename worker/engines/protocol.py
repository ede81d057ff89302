"""What the rest of the worker may assume about a speech engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.audio import Hypothesis, Samples


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How to decode; hashable, because the batcher groups chunks by it."""

    language: str | None = None
    """ISO 639-1 code, or None to let the model detect it (or because it knows only one)."""
    beam_size: int = 5


class Engine(Protocol):
    """A loaded model. Loading happens in the constructor and raises ``ModelError``."""

    device: str
    """'cpu' or 'cuda'; for the log and the worker registry."""
    version: str
    """Engine library and its version, such as 'pocketsphinx 5.1.1'."""
    max_batch: int
    """The most chunks one call takes with profit; 1 where the engine gains nothing from batches."""

    def transcribe(self, batch: Sequence[Samples], options: DecodeOptions) -> list[Hypothesis]:
        """Return one hypothesis per item, in the batch's order.

        Each item is mono float32 of shape (n_samples,) at 16 kHz. Word times are samples from the
        item's start, within [0, n_samples], non-decreasing. Silence gives no words. A call from any
        thread is allowed, one at a time.

        Raises:
            DeviceOutOfMemory: the batch did not fit; a smaller one may.
            ModelError: the model cannot do this.
            EngineFailed: it broke down otherwise; perhaps no later call can succeed.
        """
        ...
