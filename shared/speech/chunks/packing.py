"""Chunks without their long pauses.

A Whisper's window costs the same whatever it holds. So of a chunk whose pauses are long, only the
parts around the speech are heard, joined to one item. The words of that item are moved back to
where they were spoken: all that is known of a chunk counts in its own samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from shared.speech.audio.levels import FRAME_SAMPLES, Frames, find_sound, frames_of
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.audio.spans import Span
from shared.speech.chunks.chunk import Chunk
from shared.speech.chunks.hypothesis import Hypothesis, WordHypothesis

KEPT_PAUSE_SAMPLES = 1 * SAMPLE_RATE
"""What is left of a longer pause between two spans of speech, half of it on each side. The spans
themselves hold another 0.4 s of silence on each side. Half as much costs accuracy
(docs/fidelity.md)."""
CLICK_FRAMES = 4
"""Sound shorter than 80 ms is no word."""
LEAST_SOUND = 0.25
"""A word with less sound than a quarter of its length lies in silence; what it has is the edge of
its neighbour."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A chunk, or a slice of it, whose parts are heard as one item."""

    samples: Samples
    """Of the chunk or slice, shape (n_samples,)."""
    parts: tuple[Span, ...]
    """In order, in samples from the first one of the chunk or slice; never empty."""

    @property
    def item(self) -> Samples:
        """The parts, one after another."""
        if len(self.parts) == 1:
            return self.samples[self.parts[0].start : self.parts[0].end]
        return np.concatenate([self.samples[part.start : part.end] for part in self.parts])

    def unpack(self, hypothesis: Hypothesis) -> Hypothesis:
        """Return what was heard in the item, with times in samples of the chunk or slice.

        A word that reaches over a joint is cut to the part that holds most of its sound.
        """
        words = hypothesis.words
        sound = np.zeros(0, bool)
        if len(self.parts) > 1:
            sound = find_sound(self.item, ())
            words = leave_pauses(words, [at for at, _ in self._placed()][1:], sound)
        return replace(hypothesis, words=tuple(self._unpack(word, sound) for word in words))

    def _unpack(self, word: WordHypothesis, sound: Frames) -> WordHypothesis:
        def share(placed: tuple[int, Span]) -> tuple[int, int]:
            at, part = placed
            start, end = max(word.start, at), min(word.end, at + part.end - part.start)
            return _n_sound(sound, start, end), _overlap(word, at, part)

        at, part = max(self._placed(), key=share)
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


def pack(chunk: Chunk, samples: Samples, heard: Span | None = None) -> Packed:
    """Return what is heard of a chunk, or of a slice of it.

    Args:
        chunk: with its parts.
        samples: the chunk's, shape (chunk.n_samples,).
        heard: the slice, in samples from the chunk's first one; it holds speech. None: all.
    """
    heard = heard or Span(0, chunk.n_samples)
    parts = tuple(
        Span(max(part.start, heard.start) - heard.start, min(part.end, heard.end) - heard.start)
        for part in chunk.heard
        if part.start < heard.end and heard.start < part.end
    )
    return Packed(samples[heard.start : heard.end], parts)


def leave_pauses(
    words: Sequence[WordHypothesis], joints: Sequence[int], sound: Frames
) -> tuple[WordHypothesis, ...]:
    """Move words out of the silence around joints, to sound beside it that has no words.

    A model may put a word that it heard before a pause at the end of that pause. In the recording
    the word would be late by the whole pause.

    Args:
        words: of an item, in order.
        joints: samples of the item.
        sound: of the item.
    """
    found = [*words]
    for joint in joints:
        pause = _silence_around(joint, sound)
        for i, word in enumerate(found):
            if word.start >= pause.end or word.end <= pause.start:
                continue
            length = word.end - word.start
            least = max(CLICK_FRAMES, int(LEAST_SOUND * length / FRAME_SAMPLES))
            if _n_sound(sound, word.start, word.end) >= least:
                continue
            previous = found[i - 1].end if i else 0
            following = found[i + 1].start if i + 1 < len(found) else len(sound) * FRAME_SAMPLES
            n_left = _n_sound(sound, previous, pause.start)
            n_right = _n_sound(sound, pause.end, following)
            if max(n_left, n_right) < CLICK_FRAMES:
                continue
            if n_left >= n_right:
                start, end = max(previous, pause.start - length), pause.start
            else:
                start, end = pause.end, min(following, pause.end + length)
            found[i] = replace(word, start=start, end=end)
    return tuple(found)


def _silence_around(sample: int, sound: Frames) -> Span:
    """Return the silence in which a sample lies, in samples; empty where there is sound."""
    at = sample // FRAME_SAMPLES
    before, after = np.flatnonzero(sound[: at + 1]), np.flatnonzero(sound[at:])
    start = int(before[-1]) + 1 if before.size else 0
    end = at + int(after[0]) if after.size else len(sound)
    return Span(min(start, end) * FRAME_SAMPLES, end * FRAME_SAMPLES)


def _n_sound(sound: Frames, start: int, end: int) -> int:
    """Return in how many of the frames that samples [start, end) touch there is sound."""
    return int(np.count_nonzero(sound[frames_of(start, end)])) if start < end else 0


def _overlap(word: WordHypothesis, at: int, part: Span) -> int:
    """Return how much of a word lies in a part; below 0, how far they are apart.

    A word of no length lies in the part of its sample.
    """
    end = at + part.end - part.start
    return min(max(word.end, word.start + 1), end) - max(word.start, at)
