"""Chunks without their long pauses.

A Whisper's window costs the same whatever it holds. So of a chunk whose pauses are long, only the
parts around the speech are heard, joined to one item. The words of that item are moved back to
where they were spoken: all that is known of a chunk counts in its own samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from shared.speech.audio import Samples
from shared.speech.chunks import SAMPLE_RATE, Chunk, Hypothesis, WordHypothesis
from shared.speech.spans import Span

KEPT_PAUSE_SAMPLES = 1 * SAMPLE_RATE
"""What is left of a longer pause between two spans of speech, half of it on each side. The spans
themselves hold another 0.4 s of silence on each side."""


def shorten_pauses(speech: Sequence[Span]) -> tuple[Span, ...]:
    """Return the parts to be heard: speech and short pauses; none where no pause is long."""
    half = KEPT_PAUSE_SAMPLES // 2
    joints = [
        (left.end + half, right.start - half)
        for left, right in pairwise(speech)
        if right.start - left.end > KEPT_PAUSE_SAMPLES
    ]
    if not joints:
        return ()
    starts = [speech[0].start, *(start for _, start in joints)]
    ends = [*(end for end, _ in joints), speech[-1].end]
    return tuple(map(Span, starts, ends))


def n_saved(speech: Sequence[Span]) -> int:
    """Return by how many samples ``shorten_pauses`` shortens."""
    parts = shorten_pauses(speech)
    return sum(right.start - left.end for left, right in pairwise(parts))


@dataclass(frozen=True, slots=True)
class Packing:
    """Parts of a chunk, or of a slice of it, that are heard as one item; never empty."""

    parts: tuple[Span, ...]
    """In order, in samples from the first one of the chunk or slice."""

    def pack(self, samples: Samples) -> Samples:
        """Cut the item out of the samples of the chunk or slice."""
        if len(self.parts) == 1:
            return samples[self.parts[0].start : self.parts[0].end]
        return np.concatenate([samples[part.start : part.end] for part in self.parts])

    def unpack(self, hypothesis: Hypothesis) -> Hypothesis:
        """Return what was heard in the item, with times in samples of the chunk or slice.

        A word that reaches over a joint is cut to the part that holds most of it.
        """
        return replace(hypothesis, words=tuple(map(self._unpack, hypothesis.words)))

    def _unpack(self, word: WordHypothesis) -> WordHypothesis:
        at, part = max(self._placed(), key=lambda placed: _overlap(word, *placed))
        start, end = (
            part.start + min(max(0, sample - at), part.end - part.start)
            for sample in (word.start, word.end)
        )
        return replace(word, start=start, end=end)

    def _placed(self) -> Iterator[tuple[int, Span]]:
        """Yield each part with its first sample in the item."""
        at = 0
        for part in self.parts:
            yield at, part
            at += part.end - part.start


def packing_of(chunk: Chunk, heard: Span | None = None) -> Packing:
    """Return what is heard of a chunk, or of a slice of it.

    Its parts count from the slice's first sample. ``heard``, the slice, counts from the chunk's
    first sample and holds speech.
    """
    heard = heard or Span(0, chunk.n_samples)
    return Packing(
        tuple(
            Span(max(part.start, heard.start) - heard.start, min(part.end, heard.end) - heard.start)
            for part in chunk.heard
            if part.start < heard.end and heard.start < part.end
        )
    )


def _overlap(word: WordHypothesis, at: int, part: Span) -> int:
    """Return how much of a word lies in a part; below 0, how far they are apart.

    A word of no length lies in the part of its sample.
    """
    end = at + part.end - part.start
    return min(max(word.end, word.start + 1), end) - max(word.start, at)
