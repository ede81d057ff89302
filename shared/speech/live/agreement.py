"""Which words of a growing text will stay: those that three hearings in a row agree on.

The rule is LocalAgreement-n of Liu, Spanakis and Niehues (2020), "Low-latency sequence-to-sequence
speech recognition and translation by partial hypothesis selection", with three hearings instead of
their two. A word of which the model is unsure takes a fourth.
"""

from collections.abc import Sequence
from itertools import takewhile

from shared.speech.chunks.hypothesis import WordHypothesis
from shared.speech.live.words import is_clear, middle, n_alike, spelling


class Agreement:
    """The text of one segment while it grows. Committed words are never changed or taken back."""

    def __init__(self, carried: Sequence[WordHypothesis] = ()) -> None:
        """Begin with what the segment before has left over."""
        self._committed: list[WordHypothesis] = []
        self._pending = list(carried)
        self._times = [1] * len(self._pending)
        """How many hearings in a row have had each pending word, and all before it."""

    @property
    def committed(self) -> Sequence[WordHypothesis]:
        """Words that stay."""
        return self._committed

    @property
    def words(self) -> tuple[WordHypothesis, ...]:
        """All words of the newest hearing."""
        return (*self._committed, *self._pending)

    @property
    def n_agreed(self) -> int:
        """How many of ``words``, from the first one on, two hearings in a row agree on."""
        return len(self._committed) + sum(times > 1 for times in self._times)

    def update(self, heard: Sequence[WordHypothesis], start: int, settled: int) -> None:
        """Take a newer hearing, of audio from ``start`` on, and commit what it confirms.

        The audio may begin after words that are committed. No word is committed that ends after
        ``settled``.
        """
        new = self._after_committed(heard, start)
        n_agreed = n_alike(new, self._pending)
        self._times = [times + 1 for times in self._times[:n_agreed]] + [1] * (len(new) - n_agreed)
        self._pending = list(new)
        confirmed = takewhile(
            lambda each: each[0].end <= settled and each[1] >= _times_needed(each[0]),
            zip(self._pending, self._times, strict=True),
        )
        self._commit(len(list(confirmed)))

    def commit_before(self, position: int) -> None:
        """Commit the pending words before a position, however often they were heard."""
        n_passed = len(list(takewhile(lambda word: middle(word) < position, self._pending)))
        self._commit(n_passed)

    def complete(self, heard: Sequence[WordHypothesis], start: int) -> tuple[WordHypothesis, ...]:
        """Return the whole text: the committed words, and those of the last hearing after them."""
        return (*self._committed, *self._after_committed(heard, start))

    def _commit(self, n_words: int) -> None:
        self._committed += self._pending[:n_words]
        del self._pending[:n_words], self._times[:n_words]

    def _after_committed(
        self, heard: Sequence[WordHypothesis], start: int
    ) -> Sequence[WordHypothesis]:
        known = [word for word in self._committed if middle(word) >= start]
        return heard[_prefix_length(known, heard) :]


def _times_needed(word: WordHypothesis) -> int:
    return 3 if is_clear(word) else 4


def _prefix_length(known: Sequence[WordHypothesis], heard: Sequence[WordHypothesis]) -> int:
    """Return how many words of ``heard`` say what ``known`` says.

    It is the prefix with the least edit distance to ``known``, and among equals the one that ends
    nearest to where ``known`` does.
    """
    if not known:
        return 0
    n_equal = n_alike(known, heard)
    if n_equal == len(known):
        return n_equal
    left = [spelling(word) for word in heard[n_equal:]]
    distances = list(range(len(left) + 1))
    for word in known[n_equal:]:
        above, distances = distances, [distances[0] + 1]
        for at, other in enumerate(left):
            replaced = above[at] + (spelling(word) != other)
            distances.append(min(replaced, above[at + 1] + 1, distances[at] + 1))

    def cost(at: int) -> tuple[int, int]:
        n_words = n_equal + at
        end = heard[n_words - 1].end if n_words else known[0].start
        return distances[at], abs(end - known[-1].end)

    return n_equal + min(range(len(distances)), key=cost)
