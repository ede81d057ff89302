"""Speech that a model left without words, and how it is heard again.

A Whisper may end its answer early or leave out a sentence. So the words of a chunk are compared
with its sound. A stretch of sound without words is heard again, with some of the speech around it.
The answer is joined to the chunk's words where both heard the same.

Everything here is pure: the ``transcribe`` step moves the samples.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shared.speech.audio.levels import FRAME_SAMPLES, Frames, find_sound, frames_of
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.audio.spans import Span
from shared.speech.chunks.chunk import Chunk
from shared.speech.chunks.hypothesis import Heard, Hypothesis, WordHypothesis
from shared.speech.chunks.seams import keep_once
from shared.speech.chunks.word_bounds import bound_words
from shared.speech.text.scripts import space_between

LEAST_UNHEARD_SAMPLES = 1 * SAMPLE_RATE
"""A stretch is heard again from one second of sound on, which is two or three words. Less is mostly
a filler, a breath, or a word that is timed a little wrong."""
MARGIN_SAMPLES = SAMPLE_RATE // 10
"""A word covers 100 ms more on both sides, as words are timed no better than that."""
CONTEXTS_SAMPLES = (2 * SAMPLE_RATE, SAMPLE_RATE // 5)
"""By attempt, how much is heard on both sides of a stretch. A model hears words better among their
neighbours. If it leaves the stretch out again, it hears the stretch alone."""
MAX_ROUNDS = 3
"""A chunk is heard again so often. A stretch that is filled may leave a shorter one."""
LEAST_GAIN_SAMPLES = SAMPLE_RATE * 3 // 10
"""An answer must cover 300 ms more sound, about one word, to be kept."""
LEAST_CONFIDENCE = 0.4
"""An answer is kept if the mean confidence of its new words is 0.4. Below that they are more likely
wrong than right."""


def find_unheard(words: Iterable[WordHypothesis], sound: Frames, counted: Frames) -> list[Span]:
    """Return the stretches of sound without words, in order, in samples of the chunk.

    A stretch lies between two words, or between a word and the chunk's edge. It begins and ends
    with sound, and has at least ``LEAST_UNHEARD_SAMPLES`` of the ``counted`` sound.
    """
    stretches = []
    without_words = ~covered(words, len(sound))
    edges = np.flatnonzero(np.diff(np.concatenate(([False], without_words, [False]))))
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        at = np.flatnonzero(sound[first:last])
        n_counted = np.count_nonzero(counted[first:last])
        if n_counted * FRAME_SAMPLES >= LEAST_UNHEARD_SAMPLES:
            start, end = first + int(at[0]), first + int(at[-1]) + 1
            stretches.append(Span(start * FRAME_SAMPLES, end * FRAME_SAMPLES))
    return stretches


def covered(words: Iterable[WordHypothesis], n_frames: int) -> Frames:
    """Return which frames of a chunk its words cover."""
    frames = np.zeros(n_frames, bool)
    for word in words:
        frames[frames_of(word.start - MARGIN_SAMPLES, word.end + MARGIN_SAMPLES)] = True
    return frames


def splice(
    words: Sequence[WordHypothesis],
    answer: Sequence[WordHypothesis],
    heard: Span,
    stretch: Span,
    n_samples: int,
) -> tuple[WordHypothesis, ...]:
    """Return a chunk's words with an answer's words in a stretch.

    Both hypotheses have the words around the stretch. ``seams`` decides which words lie within it.

    Args:
        words: the chunk's.
        answer: the words of ``heard``, with times from its start.
        heard: the slice of the chunk that was heard again; it holds the stretch.
        stretch: the part of it from which the answer's words are taken.
        n_samples: the chunk's length.
    """
    before, after = stretch.start - heard.start, heard.end - stretch.end
    parts: list[Heard] = []
    if stretch.start > 0:
        overlap = min(before, n_samples - stretch.start)
        left = Chunk(0, 0, stretch.start, 0, overlap)
        parts.append((left, Hypothesis(tuple(w for w in words if _middle(w) < left.end))))
    inner = Chunk(1, stretch.start, stretch.end, before, after)
    parts.append((inner, Hypothesis(tuple(answer))))
    if stretch.end < n_samples:
        overlap = min(after, stretch.end)
        right = Chunk(2, stretch.end, n_samples, overlap, 0)
        parts.append((right, Hypothesis(tuple(_moved(words, -right.start)))))
    joined: list[WordHypothesis] = []
    for part, _, kept in keep_once(parts):
        for word in _moved(kept, part.start):
            start = max(word.start, joined[-1].end if joined else 0)
            text = word.text
            if part is inner and joined and space_between(joined[-1].text, text) is False:
                text = text.lstrip()  # many tokenizers begin every answer with a space
            joined.append(replace(word, text=text, start=start, end=max(start, word.end)))
    return tuple(joined)


@dataclass(frozen=True, slots=True)
class _Question:
    """A slice that is heard again for a stretch."""

    stretch: Span
    heard: Span


class Listening:
    """A chunk's words, from the first hypothesis to the last.

    ``next_slices`` says what to hear again, and ``take`` takes the answers in that order. There are
    at most ``MAX_ROUNDS`` such rounds.
    """

    def __init__(self, chunk: Chunk, samples: Samples, first: Hypothesis) -> None:
        """Take a chunk, its samples of shape (chunk.n_samples,), and what was heard in it first."""
        self._n_samples = len(samples)
        self._sound = find_sound(samples, chunk.speech)
        self._in_core = self._sound.copy()
        """Sound in the core, whose words this chunk keeps. A stretch may reach into a stride, where
        neighbours compare their words. Without sound in the core it is left to the neighbour."""
        self._in_core[: frames_of(0, chunk.stride_left).stop] = False
        self._in_core[frames_of(len(samples) - chunk.stride_right, len(samples))] = False
        self._first = first
        self._words = bound_words(first.words, self._sound)
        self._questions: list[_Question] = []
        self._asked = {Span(0, len(samples))}
        """Slices that have been heard."""
        self._n_rounds = 0
        self.n_kept = 0
        """Number of answers that were kept."""

    @property
    def hypothesis(self) -> Hypothesis:
        """The chunk's words so far, and the stretches without words."""
        unheard = tuple(find_unheard(self._words, self._in_core, self._in_core))
        return replace(self._first, words=self._words, unheard=unheard)

    def next_slices(self) -> list[Span]:
        """Return the slices to hear in the next round, in samples of the chunk; empty when done.

        Nothing is heard again if the model repeated itself in the chunk, as its words are in doubt.
        """
        if self._n_rounds == MAX_ROUNDS or self._first.loop_suspected:
            return []
        self._n_rounds += 1
        self._questions = [*self._ask()]
        self._asked.update(question.heard for question in self._questions)
        return [question.heard for question in self._questions]

    def take(self, answers: Sequence[Hypothesis]) -> None:
        """Keep the answers that cover more than the words so far, and pass the checks."""
        for question, answer in zip(self._questions, answers, strict=True):
            stretch, heard = question.stretch, question.heard
            words = bound_words(answer.words, self._sound[frames_of(heard.start, heard.end)])
            inner = Span(
                max(heard.start, stretch.start - MARGIN_SAMPLES),
                min(heard.end, stretch.end + MARGIN_SAMPLES),
            )
            joined = splice(self._words, words, heard, inner, self._n_samples)
            if not answer.loop_suspected and self._is_better(joined, inner):
                self._words = joined
                self.n_kept += 1

    def _ask(self) -> Iterator[_Question]:
        """Yield for each stretch the first slice that has not been heard yet."""
        for stretch in find_unheard(self._words, self._sound, self._in_core):
            for context in CONTEXTS_SAMPLES:
                start = max(0, stretch.start - context) // FRAME_SAMPLES * FRAME_SAMPLES
                heard = Span(start, min(self._n_samples, stretch.end + context))
                if heard not in self._asked:
                    yield _Question(stretch, heard)
                    break

    def _is_better(self, joined: Sequence[WordHypothesis], inner: Span) -> bool:
        n_more = self._n_covered(joined) - self._n_covered(self._words)
        if n_more * FRAME_SAMPLES < LEAST_GAIN_SAMPLES:
            return False
        new = [word for word in joined if inner.start <= _middle(word) < inner.end]
        known = [word.confidence for word in new if word.confidence is not None]
        return not known or sum(known) / len(known) >= LEAST_CONFIDENCE

    def _n_covered(self, words: Iterable[WordHypothesis]) -> int:
        """Return how many frames of sound the words cover."""
        return int(np.count_nonzero(covered(words, len(self._sound)) & self._sound))


def _middle(word: WordHypothesis) -> int:
    return (word.start + word.end) // 2


def _moved(words: Iterable[WordHypothesis], by: int) -> Iterator[WordHypothesis]:
    """Yield words whose times count from another sample."""
    return (replace(word, start=word.start + by, end=word.end + by) for word in words)
