"""Which words of neighbouring chunks are kept, where both have heard some speech.

A word belongs to the chunk whose core holds its midpoint. But each chunk is heard by itself, and a
model times a word by what is around it: at a cut, the left one may put its midpoint after the cut
and the right one before it, and the word would be lost; or the other way round, and it would be
doubled. So what both heard around a cut is laid side by side first.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from unicodedata import category

from shared.speech.chunks import Chunk, Heard, Hypothesis, WordHypothesis


@dataclass(slots=True)
class _Candidate:
    """A word, its midpoint on the original timeline in samples, and where it lies."""

    word: WordHypothesis
    letters: str
    midpoint: int
    after_left_cut: bool
    before_right_cut: bool


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
        # A word of no length at the chunk's very end still lies on its last sample.
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
    """Have both chunks say alike of the words between them which lie before the cut.

    A word that both heard lies where the mean of its two times says; what only one of them heard
    goes with the words around it, and where these are on both sides of the cut, by its own time.
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
    """Give words of the left and of the right chunk to the left one (before the cut) or the other.

    The cuts at the chunks' other ends may still take them away.
    """
    for candidate in ours:
        candidate.before_right_cut = before_cut
    for candidate in theirs:
        candidate.after_left_cut = not before_cut


def _same_words(
    left: Sequence[_Candidate], right: Sequence[_Candidate], *, within: float
) -> Iterator[tuple[int, int]]:
    """Yield the words that both heard as (index in left, index in right), in order.

    Of all alignments that keep the order it is the best: two words of the same letters are worth 1
    where their midpoints agree, and the less, the further apart they are, down to a half ``within``
    samples of each other. That is a stride: two words on either side of a cut that are nearer lie
    in both chunks, so that what is said twice is heard twice by each.
    """
    # best[i][j] is what the words from i and from j on can be worth.
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
    """Return a word without what a model chooses by what is around it: case and punctuation."""
    return "".join(c for c in text.casefold() if category(c)[0] not in "PZ")


def _kept(chunk: Chunk, hypothesis: Hypothesis, candidates: Sequence[_Candidate]) -> Kept:
    kept = [c.word for c in candidates if c.after_left_cut and c.before_right_cut]
    return chunk, hypothesis, kept
