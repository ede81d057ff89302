"""What a live session says, and what it asks of those who do its input and output.

Positions are samples from the first one of the session.
"""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from shared.speech.chunks.hypothesis import WordHypothesis
from shared.speech.live.requests import LiveAnswer, LiveRequest
from shared.speech.live.words import text_of


class Cause(StrEnum):
    """Why a segment ended."""

    ENDPOINT = "endpoint"
    """Silence followed."""
    FLUSH = "flush"
    LIMIT = "limit"
    """It reached the greatest length; the talker goes on in the next segment."""
    END = "end"
    """The session ended."""


class EndReason(StrEnum):
    """Why a session ended."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    ERROR = "error"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Somebody begins to speak."""

    at: int


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """They have stopped."""

    at: int


@dataclass(frozen=True, slots=True)
class Partial:
    """What has been said in a segment so far."""

    segment: str
    words: tuple[WordHypothesis, ...]
    n_stable: int
    """The first words, which later partials and the final keep."""
    answer: LiveAnswer | None
    """What this follows from; None: the words were carried over from the segment before."""
    is_preflight: bool = False
    """Whether the talker has paused and this is the final's text, unless they go on."""

    @property
    def text(self) -> str:
        """Everything."""
        return text_of(self.words)

    @property
    def stable_text(self) -> str:
        """The part that stays: ``text`` begins with it."""
        return text_of(self.words[: self.n_stable])


@dataclass(frozen=True, slots=True)
class Final:
    """What was said in a segment, once and for all."""

    segment: str
    start: int
    end: int
    words: tuple[WordHypothesis, ...]
    language: str | None
    cause: Cause
    answer: LiveAnswer | None
    """None where nothing was asked, as nobody spoke."""
    speakers: tuple[int | None, ...] = ()
    """Who says each word, from 0 in the order in which they were first told; None: nobody can say.
    Empty where that was not asked."""

    @property
    def text(self) -> str:
        """The words with what stands between them."""
        return text_of(self.words)

    @property
    def speakers_of_words(self) -> tuple[int | None, ...]:
        """``speakers``, with one for each word also where that was not asked."""
        return self.speakers or (None,) * len(self.words)

    @property
    def speaker(self) -> int | None:
        """Who says most of it; None: nobody can say."""
        spoken: Counter[int | None] = Counter()
        for word, speaker in zip(self.words, self.speakers, strict=False):
            spoken[speaker] += word.end - word.start + 1
        return max(spoken, key=lambda each: spoken[each], default=None)


@dataclass(frozen=True, slots=True)
class Failed:
    """A segment could not be heard; its final, which follows, has what its partials heard."""

    segment: str
    code: str
    """Of an error (``shared.infra.errors``)."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over: nothing follows."""

    reason: EndReason
    n_samples: int
    """Of the whole session."""
    n_segments: int
    """Finals before this."""


Event = SpeechStarted | SpeechEnded | Partial | Final | Failed | Ended
"""For the client."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Have a model worker hear this, and hand the answer back."""

    request: LiveRequest


@dataclass(frozen=True, slots=True)
class Drop:
    """Nobody waits for the answers to this segment's requests any more."""

    segment: str


Effect = Event | Ask | Drop
