"""One stretch of a session's audio, from its first partial to its final."""

from dataclasses import dataclass, field
from itertools import takewhile

from shared.speech.chunks.hypothesis import WordHypothesis
from shared.speech.live.agreement import Agreement
from shared.speech.live.events import Cause, Event, Failed, Final, Partial
from shared.speech.live.options import samples_of
from shared.speech.live.requests import LiveAnswer
from shared.speech.live.words import is_clear, middle, n_alike, placed

UNSURE = samples_of(400)
"""Words that end within this distance of a request's end are mostly cut off, so they are not
shown."""
UNSETTLED = samples_of(1_000)
"""Nor are words within this distance committed: with 300 ms, one in twelve was wrong and stayed."""
_SEARCH = samples_of(5_000)
"""A segment that reaches its limit is cut within this time before it."""


@dataclass(slots=True)
class Asked:
    """A request under way: it has samples [start, end)."""

    segment: "Segment"
    start: int
    end: int
    commits: bool
    """Whether its words are committed at once: it has the whole segment, up to a pause. Without
    partials none is: the client was told of no word, so the final may have others."""


@dataclass(slots=True)
class Ahead:
    """A final that was asked for before its segment ended, for samples up to ``end``."""

    request: str
    end: int
    answer: LiveAnswer | None = None


@dataclass(slots=True)
class Segment:
    """The state of a segment. Its events wait in ``events`` until those before it are out."""

    id: str
    start: int
    limit: int
    """Its end lies before this position."""
    agreement: Agreement = field(default_factory=Agreement)
    events: list[Event] = field(default_factory=list)
    announced: bool = False
    """Whether the client was told that speech began; its end will be told as well."""
    ahead: Ahead | None = None
    partial: str | None = None
    """The newest partial request."""
    partial_due: int = 0
    """Position at which the next one is sent."""
    window_start: int = field(init=False)
    """Where the audio of partials begins."""
    shown: tuple[WordHypothesis, ...] = ()
    """The words of the latest partial, of which the first ``n_stable`` are committed."""
    n_stable: int = 0
    heard_until: int = 0
    """End of the audio of the newest answer."""
    end: int | None = None
    """None while it is open."""
    cause: Cause = Cause.ENDPOINT
    final: str | None = None
    """The request whose answer ends it."""
    is_done: bool = False

    def __post_init__(self) -> None:
        self.window_start = self.start

    @property
    def earliest_cut(self) -> int:
        """Where it is cut at the earliest if it reaches its limit; words after it may move on."""
        return self.limit - min(_SEARCH, (self.limit - self.start) // 3)

    def window(self, position: int, longest: int) -> int:
        """Return where the audio of a partial begins that ends at ``position``.

        It is at most ``longest``; cut where committed words end, if it has to be cut.
        """
        if position - self.window_start > longest:
            oldest, newest = position - longest, position - longest // 2
            ends = [word.end for word in self.agreement.committed if oldest <= word.end <= newest]
            self.window_start = max(ends, default=oldest)
            self.agreement.commit_before(self.window_start)
        return self.window_start

    def hear(self, answer: LiveAnswer, asked: Asked) -> bool:
        """Take an answer, and return whether it brings anything new."""
        hypothesis = answer.hypothesis
        if hypothesis is None or asked.end <= self.heard_until:
            return False
        self.heard_until = asked.end
        settled = min(asked.end - UNSETTLED, self.earliest_cut)
        self.agreement.update(placed(hypothesis, asked.start), asked.start, settled)
        if asked.commits and not hypothesis.loop_suspected:
            self.agreement.commit_before(settled)
        return True

    def show(self, answer: LiveAnswer, sure: int) -> None:
        """Tell the words so far, if there is anything new.

        Words that end after ``sure`` are held back, apart from the segment's first, and so is what
        follows a word that is neither clear nor heard twice. What was told before stays until two
        hearings in a row agree on something else.
        """
        words, n_stable = self.agreement.words, len(self.agreement.committed)
        n_same = n_alike(words, self.shown)
        if n_same < len(self.shown) and self.agreement.n_agreed <= n_same:
            words = (*words[:n_same], *self.shown[n_same:])
        else:
            n_sure = sum(1 for _ in takewhile(lambda word: word.end <= sure, words))
            n_sure = min(n_sure if self.shown else max(n_sure, 1), self._n_believed)
            words = words[: max(n_stable, n_sure, n_same)]
        if (words, n_stable) != (self.shown, self.n_stable):
            self._tell(words, answer)

    def show_all(self, answer: LiveAnswer | None, *, is_preflight: bool = False) -> None:
        """Tell all words: those of the likely final, or those of the segment before."""
        self._tell(self.agreement.words, answer, is_preflight=is_preflight)

    @property
    def _n_believed(self) -> int:
        """How many words, from the first one on, are clear or were heard twice."""
        n_agreed = self.agreement.n_agreed
        return n_agreed + sum(1 for _ in takewhile(is_clear, self.agreement.words[n_agreed:]))

    def _tell(
        self,
        words: tuple[WordHypothesis, ...],
        answer: LiveAnswer | None,
        *,
        is_preflight: bool = False,
    ) -> None:
        """Add a partial, in place of one that is still waiting."""
        if words:
            self.shown, self.n_stable = words, len(self.agreement.committed)
            self.events[:] = [event for event in self.events if not isinstance(event, Partial)]
            self.events.append(Partial(self.id, words, self.n_stable, answer, is_preflight))

    def finish(self, answer: LiveAnswer | None, offset: int) -> None:
        """Tell the final; the audio of ``answer`` began at ``offset``, None: nothing was asked."""
        assert self.end is not None
        hypothesis = None if answer is None else answer.hypothesis
        if hypothesis is not None:
            words = self.agreement.complete(placed(hypothesis, offset), offset)
        else:
            words = self.agreement.words
            if answer is not None:
                self.events.append(Failed(self.id, answer.error or "internal_error"))
        language = None if hypothesis is None else hypothesis.language
        self.events.append(
            Final(self.id, self.start, self.end, words, language, self.cause, answer)
        )
        self.is_done = True

    def carry_over(self, cut: int) -> Agreement:
        """Return what the next segment begins with: the pending words after the cut."""
        n_committed = len(self.agreement.committed)
        pending = self.agreement.words[n_committed:]
        return Agreement([word for word in pending if middle(word) >= cut])
