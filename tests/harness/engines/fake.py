"""Engines that stand in for a device."""

from collections.abc import Sequence
from typing import NamedTuple

from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Hypothesis
from worker.engines.protocol import DecodeOptions, EngineOf, Prepared


class Item(NamedTuple):
    """What there is to hear."""

    samples: Samples
    options: DecodeOptions


class ItemEngine(EngineOf[Item, Item]):
    """Names each item by its length, in place of its language; every item is as long as a window.

    Items of equal options share calls.
    """

    device, dtype, version, weights_digest = "cpu", "float32", "fake 1", "none"
    window_samples = 1

    def prepare(self, samples: Samples, options: DecodeOptions) -> Prepared[Item] | Hypothesis:
        return Prepared(Item(samples, options), 1, group=options)

    def infer(self, batch: Sequence[Prepared[Item]]) -> list[Item | Prepared[Item]]:
        return [item.input for item in batch]

    def finish(self, raw: Item) -> Hypothesis:
        return Hypothesis((), str(len(raw.samples)))
