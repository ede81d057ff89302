"""Which words are kept where neighbouring chunks overlap.

A word belongs to the chunk whose core holds its midpoint, but a model times the same word a little
differently in each chunk. If the left chunk puts it after the cut and the right one before it, the
word would be lost. If it is the other way round, the word would be doubled. So the words that both
chunks heard around a cut are aligned first.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from unicodedata import category

from shared.speech.chunks.chunk import Chunk
from shared.speech.chunks.hypothesis import Heard, Hypothesis, WordHypothesis


@dataclass(slots=True)
class _Candidate:
    """A word, its midpoint in samples of the original timeline, and its side of both cuts."""

    word: WordHypothesis
    letters: str
    midpoint: int
    after_left_cut: bool
    before_right_cut: bool


Kept = tuple[Chunk, Hypothesis, Sequence[WordHypothesis]]
"""A chunk, its hypothesis, and those of its words that are kept."""


def keep_once(chunks: Iterable[Heard]) -> Iterator[Kept]:
    """Yield each chunk of a channel with the words that belong to it, in the order of the cores.

    Words without text are dropped. Word times stay relative to their chunk's start.
    """
    left: tuple[Chunk, Hypothesis, list[_Candidate]] | None = None
    for chunk, hypothesis in chunks:
        candidates = _candidates(chunk, hypothesis)
        if left is not None:
            if left[0].core_end == chunk.core_start:
                _agree(left[0], left[2], chunk, candidates)
            yield _kept(*left)
        left = chunk, hypothesis, candidates
    if left is not None:
        yield _kept(*left)


def _candidates(chunk: Chunk, hypothesis: Hypothesis) -> list[_Candidate]:
    candidates = []
    for word in hypothesis.words:
        if not word.text.strip():
            continue
        # A word of no length at the chunk's end lies on its last sample.
        midpoint = chunk.start + min((word.start + word.end) // 2, chunk.n_samples - 1)
        candidates.append(
            _Candidate(
                word,
                _letters(word.text),
                midpoint,
                after_left_cut=midpoint >= chunk.core_start,
                before_right_cut=midpoint < chunk.core_end,
            )
        )
    return candidates


def _agree(
    left_chunk: Chunk, left: Sequence[_Candidate], right_chunk: Chunk, right: Sequence[_Candidate]
) -> None:
    """Make two chunks agree on which words of their overlap lie before the cut.

    A word that both heard lies at the mean of its two times. A word that only one of them heard
    follows the words around it. If those lie on both sides of the cut, its own time decides.
    """
    cut, overlap = right_chunk.core_start, range(right_chunk.start, left_chunk.end)
    ours = [candidate for candidate in left if candidate.midpoint in overlap]
    theirs = [candidate for candidate in right if candidate.midpoint in overlap]
    for at, beside in _same_words(ours, theirs, within=len(overlap) / 2):
        if (ours[at].midpoint + theirs[beside].midpoint) / 2 < cut:
            _put(ours[: at + 1], theirs[: beside + 1], before_cut=True)
        else:
            _put(ours[at:], theirs[beside:], before_cut=False)
            return


def _put(ours: Sequence[_Candidate], theirs: Sequence[_Candidate], *, before_cut: bool) -> None:
    """Put words of both chunks on one side of the cut between them; their other cuts stay."""
    for candidate in ours:
        candidate.before_right_cut = before_cut
    for candidate in theirs:
        candidate.after_left_cut = not before_cut


def _same_words(
    left: Sequence[_Candidate], right: Sequence[_Candidate], *, within: float
) -> Iterator[tuple[int, int]]:
    """Yield the words that both heard as (index in left, index in right), in order.

    They are the alignment with the highest score that keeps the order. Two words with the same
    letters score 1 where their midpoints agree, falling to a half at ``within`` samples; further
    apart they do not match. ``within`` is a stride: a word said twice within it, around the cut, is
    heard twice by both chunks.
    """
    # best[i][j] is the best score of the words from i and from j on.
    best = [[0.0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, one in reversed([*enumerate(left)]):
        for j, other in reversed([*enumerate(right)]):
            best[i][j] = max(best[i + 1][j], best[i][j + 1])
            apart = abs(one.midpoint - other.midpoint) / within
            if one.letters == other.letters and apart < 1:
                best[i][j] = max(best[i][j], 1 - apart / 2 + best[i + 1][j + 1])
    i = j = 0
    while i < len(left) and j < len(right):
        if best[i][j] == best[i + 1][j]:
            i += 1
        elif best[i][j] == best[i][j + 1]:
            j += 1
        else:
            yield i, j
            i, j = i + 1, j + 1


def _letters(text: str) -> str:
    """Return a word without case and punctuation, which depend on the words around it."""
    return "".join(c for c in text.casefold() if category(c)[0] not in "PZ")


def _kept(chunk: Chunk, hypothesis: Hypothesis, candidates: Sequence[_Candidate]) -> Kept:
    kept = [c.word for c in candidates if c.after_left_cut and c.before_right_cut]
    return chunk, hypothesis, kept
