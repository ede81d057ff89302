"""What the rest of the worker may assume about a speech engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from shared.speech.audio import Samples
from shared.speech.chunks import Hypothesis

DecodeTask = Literal["transcribe", "translate", "detect"]
"""Words in the language spoken, words in English, or only the language and no words."""


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How to decode; hashable, because the batcher groups chunks by it."""

    language: str | None = None
    """ISO 639 code, or None to let the model detect it (or because it knows only one)."""
    task: DecodeTask = "transcribe"
    """Engines that know one language, or no translation, are asked to transcribe only."""
    prompt: str | None = None
    """Text in whose style and spelling to go on; engines without prompts are given none."""
    hotwords: str | None = None
    """Words to expect; engines without prompts are given none."""
    beam_size: int = 5


class Engine(Protocol):
    """A loaded model. Loading happens in the constructor and raises ``ModelError``."""

    device: str
    """'cpu' or 'cuda'; for the log and the worker registry."""
    dtype: str
    """What the device computes in, such as 'float32', 'float16' or 'int8'."""
    version: str
    """Engine library and its version, such as 'pocketsphinx 5.1.1'."""
    weights_digest: str
    """'sha256:...' of the weights' files: equal digests, equal weights."""
    max_batch: int
    """The most chunks one call takes with profit; 1 where the engine gains nothing from batches."""

    def transcribe(self, batch: Sequence[Samples], options: DecodeOptions) -> list[Hypothesis]:
        """Return one hypothesis per item, in the batch's order.

        Each item is mono float32 of shape (n_samples,) at 16 kHz. Word times are samples from the
        item's start, within [0, n_samples], non-decreasing. Silence gives no words. A call from any
        thread is allowed, one at a time. A word's confidence is a probability in [0, 1] that the
        engine computed, or None: never a placeholder.

        Raises:
            DeviceOutOfMemory: the batch did not fit; a smaller one may.
            ModelError: the model cannot do this.
            EngineFailed: it broke down otherwise; perhaps no later call can succeed.
        """
        ...
