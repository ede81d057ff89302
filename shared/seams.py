"""Which words of neighbouring chunks are kept, where both have heard some speech.

A word belongs to the chunk whose core holds its midpoint. But each chunk is heard by itself, and a
model times a word by what is around it: at a cut, the left one may put its midpoint after the cut
and the right one before it, and the word would be lost; or the other way round, and it would be
doubled. So what both heard near a cut is compared.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from unicodedata import category

from shared.chunks import SAMPLE_RATE, Chunk, Heard, Hypothesis, WordHypothesis

SAME_WORD_S = 0.5
"""Two neighbours' times of a word are taken to be no further apart: our choice, less than the
stride of any window of 3 s or more. What is said twice within it stays two words as long as one of
the neighbours has heard both."""


@dataclass(slots=True)
class _Candidate:
    """A word, its midpoint on the original timeline in samples, and whether it is to be kept."""

    word: WordHypothesis
    midpoint: int
    kept: bool


Kept = tuple[Chunk, Hypothesis, Sequence[WordHypothesis]]


def keep_once(chunks: Iterable[Heard]) -> Iterator[Kept]:
    """Yield each chunk with those of its words that are its own; one chunk is taken ahead.

    ``chunks`` are of one channel, in the order of their cores; word times stay samples into their
    chunk. Words without text are nobody's.
    """
    left: tuple[Chunk, Hypothesis, list[_Candidate]] | None = None
    for chunk, hypothesis in chunks:
        candidates = _candidates(chunk, hypothesis)
        if left is not None:
            if left[0].core_end == chunk.core_start:
                _agree(left[2], candidates, chunk.core_start)
            yield _kept(*left)
        left = chunk, hypothesis, candidates
    if left is not None:
        yield _kept(*left)


def _candidates(chunk: Chunk, hypothesis: Hypothesis) -> list[_Candidate]:
    candidates = []
    for word in hypothesis.words:
        # A word of no length at the chunk's very end still lies on its last sample.
        midpoint = chunk.start + min((word.start + word.end) // 2, chunk.n_samples - 1)
        kept = bool(word.text.strip()) and chunk.core_start <= midpoint < chunk.core_end
        candidates.append(_Candidate(word, midpoint, kept))
    return candidates


def _agree(left: Sequence[_Candidate], right: Sequence[_Candidate], cut: int) -> None:
    """Have one chunk keep what both would keep, or neither: the one that the mean of times says."""
    for one, other in _same_words(_around(left, cut), _around(right, cut)):
        if one.kept == other.kept and (one.midpoint < cut) != (other.midpoint < cut):
            one.kept = (one.midpoint + other.midpoint) / 2 < cut
            other.kept = not one.kept


def _around(candidates: Sequence[_Candidate], cut: int) -> list[_Candidate]:
    reach = SAME_WORD_S * SAMPLE_RATE
    return [c for c in candidates if c.word.text.strip() and abs(c.midpoint - cut) < reach]


def _same_words(
    left: Sequence[_Candidate], right: Sequence[_Candidate]
) -> Iterator[tuple[_Candidate, _Candidate]]:
    """Yield the pairs of words with the same letters, the nearest first, each word once."""
    pairs = [
        (abs(one.midpoint - other.midpoint), at, beside)
        for at, one in enumerate(left)
        for beside, other in enumerate(right)
        if _letters(one.word.text) == _letters(other.word.text)
    ]
    ours: set[int] = set()
    theirs: set[int] = set()
    for apart, at, beside in sorted(pairs):
        if apart < SAME_WORD_S * SAMPLE_RATE and at not in ours and beside not in theirs:
            ours.add(at)
            theirs.add(beside)
            yield left[at], right[beside]


def _letters(text: str) -> str:
    """Return a word without what a model chooses by what is around it: case and punctuation."""
    return "".join(c for c in text.casefold() if category(c)[0] not in "PZ")


def _kept(chunk: Chunk, hypothesis: Hypothesis, candidates: Sequence[_Candidate]) -> Kept:
    return chunk, hypothesis, [candidate.word for candidate in candidates if candidate.kept]
