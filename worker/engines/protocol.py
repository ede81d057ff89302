"""The interface of speech engines: an item is heard in three acts.

    samples ──prepare──► Prepared ──infer──► raw output ──finish──► Hypothesis
            any thread      ▲  a device's thread  │      any thread
                            └──── once more ──────┘

``prepare`` computes features ahead of the device. ``infer`` is all that the device does, for a
batch. ``finish`` turns its output into words. An item whose answer fails an engine's checks goes
back, prepared to be decoded otherwise, and holds up no other item of its batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Hypothesis

Device = Literal["auto", "cpu", "cuda"]
"""Where to compute; 'auto' is the GPU if there is one."""

DecodeTask = Literal["transcribe", "translate", "detect"]
"""Words in the language spoken, words in English, or the language without words."""

SILENCE_PEAK = 1e-4
"""Peak below which an item is silence: -80 dBFS, 3 steps of 16-bit audio. Networks must not hear
it, as they normalise it to noise or invent words for it."""


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How to decode an item."""

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


InputT = TypeVar("InputT")
"""What an engine hands from ``prepare`` to ``infer`` for an item."""
RawT = TypeVar("RawT")
"""What an engine hands from ``infer`` to ``finish`` for an item."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared(Generic[InputT]):
    """An item that the device can take."""

    input: InputT
    n_samples: int
    """What the device computes for it: its samples, and those that the engine pads it with."""
    group: Hashable = None
    """Items of equal groups may share a call."""


class EngineOf(ABC, Generic[InputT, RawT]):
    """A loaded model. The constructor loads it and raises ``ModelError``.

    All three acts raise:
        DeviceOutOfMemory: it did not fit; a smaller batch may.
        ModelError: the model cannot do this.
        EngineFailed: the engine broke down; perhaps every later call fails as well.
    """

    device: str
    """'cpu' or 'cuda'."""
    dtype: str
    """What the device computes in, such as 'float32', 'float16' or 'int8'."""
    version: str
    """The engine's library and its version, such as 'pocketsphinx 5.1.1'."""
    weights_digest: str
    """'sha256:...' of the weights' files; equal weights have equal digests."""
    streams: int = 1
    """Calls of ``infer`` that may run at the same time, each in a thread of its own: 1 on a GPU. On
    a processor several calls with few threads each do more than one call with many."""
    max_batch: int = 1
    """The most items of ``window_samples`` that one call should have; of shorter ones more."""
    batch_sizes: tuple[int, ...] = ()
    """Candidates for ``max_batch``, to be measured at load; empty where it is known."""
    window_samples: int = 30 * SAMPLE_RATE
    """The longest item."""

    @abstractmethod
    def prepare(self, samples: Samples, options: DecodeOptions) -> Prepared[InputT] | Hypothesis:
        """Compute an item's features. Any thread may call, several at a time.

        Returns:
            The item for ``infer``, or its hypothesis where there is nothing to infer: silence.

        Args:
            samples: mono float32 of shape (n_samples,) at 16 kHz.
            options: how to decode it.
        """

    @abstractmethod
    def infer(self, batch: Sequence[Prepared[InputT]]) -> list[RawT | Prepared[InputT]]:
        """Hear items of one group; ``streams`` threads call at the same time at most.

        Returns:
            One result per item, in the batch's order: raw output for ``finish``, or the item,
            prepared anew, if it is to be inferred once more.
        """

    @abstractmethod
    def finish(self, raw: RawT) -> Hypothesis:
        """Make words of one item's output. Any thread may call, several at a time.

        Word times are samples from the item's start, within [0, n_samples], non-decreasing. Silence
        gives no words. A word's confidence is a probability in [0, 1] that the engine computed,
        never a placeholder; None where it computes none.
        """

    def rehearsal(self) -> Callable[[int], object]:
        """Return a function that does the work of a call with so many items, to compare sizes.

        It is short, so that several sizes can be tried while a worker starts.
        """
        noise = np.random.default_rng(0).normal(0.0, 0.1, 2 * SAMPLE_RATE).astype(np.float32)
        item = self.prepare(noise, DecodeOptions())
        assert isinstance(item, Prepared), "noise is not silence"
        return lambda n_items: self.infer([item] * n_items)

    def transcribe(self, batch: Sequence[Samples], options: DecodeOptions) -> list[Hypothesis]:
        """Do all three acts in this thread; return one hypothesis per item, in their order."""
        hypotheses: dict[int, Hypothesis] = {}
        waiting: list[tuple[int, Prepared[InputT]]] = []
        for i, samples in enumerate(batch):
            prepared = self.prepare(samples, options)
            if isinstance(prepared, Prepared):
                waiting.append((i, prepared))
            else:
                hypotheses[i] = prepared
        while waiting:
            group = waiting[0][1].group
            now = [(i, item) for i, item in waiting if item.group == group]
            waiting = [(i, item) for i, item in waiting if item.group != group]
            for (i, _), result in zip(now, self.infer([item for _, item in now]), strict=True):
                if isinstance(result, Prepared):
                    waiting.append((i, result))
                else:
                    hypotheses[i] = self.finish(result)
        return [hypotheses[i] for i in range(len(batch))]


Engine = EngineOf[Any, Any]
"""An engine of any kind; only the engine itself knows the types between its acts."""
