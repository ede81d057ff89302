"""Chunks and hypotheses: the parts of a job's audio, and what an engine heard in them.

Positions are samples of the decoded audio at 16 kHz. A chunk's ``times`` map them to the clock of
the file. Sums of integers stay exact over ten hours, sums of seconds do not, so seconds appear at
the wire only.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from shared.speech.spans import Span
from shared.speech.timemap import Anchor, time_of

SAMPLE_RATE = 16_000
"""Samples per second of all decoded audio; every engine here was trained at this rate."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One unit of inference: [start, end) is heard, words in [core_start, core_end) are kept.

    The strides on both sides are context that neighbours hear as well. Cores never overlap. Long
    pauses in it may be shortened (``packing``).
    """

    index: int
    core_start: int
    core_end: int
    stride_left: int
    stride_right: int
    channel: int | None = None
    """The channel it was cut from; None where all were mixed down to one."""
    times: tuple[Anchor, ...] = ()
    """Where its samples lie on the file's clock; none where they are their own times."""
    speech: tuple[Span, ...] = ()
    """Where the voice activity detector heard speech, in samples from the chunk's first one; none
    where that is everywhere."""
    parts: tuple[Span, ...] = ()
    """What a model hears of it, in samples from the chunk's first one; none where that is all."""
    stored_at: int = 0
    """Where its first sample is in the stored audio, which has the audio of chunks alone."""

    @property
    def start(self) -> int:
        return self.core_start - self.stride_left

    @property
    def end(self) -> int:
        return self.core_end + self.stride_right

    def time_of(self, sample: int) -> int:
        """Return when a sample of the decoded audio is heard on the file's clock."""
        return time_of(self.times, sample)

    @property
    def n_samples(self) -> int:
        """Length, strides and pauses included."""
        return self.end - self.start

    @property
    def heard(self) -> tuple[Span, ...]:
        """What a model hears of it, in samples from the chunk's first one; never empty."""
        return self.parts or (Span(0, self.n_samples),)

    @property
    def n_heard_samples(self) -> int:
        """Length of what a model hears of it."""
        return sum(part.end - part.start for part in self.heard)

    @property
    def n_core_samples(self) -> int:
        """Length of the core; those of a channel's chunks add up to its planned audio."""
        return self.core_end - self.core_start


@dataclass(frozen=True, slots=True)
class WordHypothesis:
    """A word as an engine heard it; start and end are samples from the chunk's first one."""

    text: str
    """With the white space that the model wrote around it. Without any before it, there is a space
    where its script and that of the word before need one (``scripts.space_between``)."""
    start: int
    end: int
    confidence: float | None = None
    tokens: tuple[int, ...] = ()
    """The model's, in its vocabulary; none where the engine has none."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a decoder came to its text, as Whispers measure it of a whole window."""

    temperature: float
    avg_logprob: float
    """Mean natural logarithm of the tokens' probabilities."""
    compression_ratio: float
    """Bytes of the text per byte of it compressed."""
    no_speech_prob: float
    """In [0, 1]."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """An engine's raw output for one chunk: words in time order, and the language it heard."""

    words: tuple[WordHypothesis, ...]
    language: str | None = None
    """ISO 639 code, given or detected; None where neither was."""
    language_probability: float | None = None
    """In [0, 1], of a detected language; None where the language was given."""
    loop_suspected: bool = False
    """Whether the engine repeated itself, at every temperature."""
    unheard: tuple[Span, ...] = ()
    """Speech without words, in samples from the chunk's first one; engines leave it empty."""
    decoding: Decoding | None = None
    """None where the engine measures nothing of the kind."""


Heard = tuple[Chunk, Hypothesis]
"""A chunk, and what an engine heard in it."""


def chunk_to_json(chunk: Chunk) -> dict[str, Any]:
    """Return the input of a chunk's ``transcribe`` step, whose idx is the chunk's index."""
    values = asdict(chunk) | {
        "speech": _spans_to_json(chunk.speech),
        "parts": _spans_to_json(chunk.parts),
    }
    left_out = {"index", *(name for name in ("times", "speech", "parts") if not values[name])}
    return {name: value for name, value in values.items() if name not in left_out}


def chunk_from_json(idx: int, data: Mapping[str, Any]) -> Chunk:
    """Return the chunk that a ``transcribe`` step's input describes.

    Members that an older version did not write have defaults; unknown ones are ignored.
    """
    return Chunk(
        index=idx,
        core_start=data["core_start"],
        core_end=data["core_end"],
        stride_left=data["stride_left"],
        stride_right=data["stride_right"],
        channel=data.get("channel"),
        times=tuple((sample, time) for sample, time in data.get("times", ())),
        speech=_spans_from_json(data.get("speech", ())),
        parts=_spans_from_json(data.get("parts", ())),
        stored_at=data.get("stored_at", 0),
    )


def hypothesis_to_json(hypothesis: Hypothesis) -> dict[str, Any]:
    """Return a hypothesis as a step's output.

    Words are [text, start, end, confidence], and [..., tokens] where they have any.
    """
    decoding = hypothesis.decoding
    return {
        "language": hypothesis.language,
        "language_probability": hypothesis.language_probability,
        "loop_suspected": hypothesis.loop_suspected,
        "unheard": _spans_to_json(hypothesis.unheard),
        "words": [_word_to_json(word) for word in hypothesis.words],
    } | ({} if decoding is None else {"decoding": asdict(decoding)})


def hypothesis_from_json(data: Mapping[str, Any]) -> Hypothesis:
    """Return the hypothesis that a step's output holds, as ``chunk_from_json`` does.

    The words may have been left out.
    """
    return Hypothesis(
        words=tuple(map(_word_from_json, data.get("words", ()))),
        language=data.get("language"),
        language_probability=data.get("language_probability"),
        loop_suspected=data.get("loop_suspected", False),
        unheard=_spans_from_json(data.get("unheard", ())),
        decoding=_decoding_from_json(data.get("decoding")),
    )


def _word_to_json(word: WordHypothesis) -> list[Any]:
    told = [word.text, word.start, word.end, word.confidence]
    return [*told, list(word.tokens)] if word.tokens else told


def _word_from_json(word: Sequence[Any]) -> WordHypothesis:
    return WordHypothesis(*word[:4], *map(tuple, word[4:5]))


def _decoding_from_json(data: Mapping[str, float] | None) -> Decoding | None:
    if data is None:
        return None
    return Decoding(**{each.name: data[each.name] for each in fields(Decoding)})


def _spans_to_json(spans: Iterable[Span]) -> list[list[int]]:
    return [[span.start, span.end] for span in spans]


def _spans_from_json(pairs: Iterable[Sequence[int]]) -> tuple[Span, ...]:
    return tuple(Span(start, end) for start, end in pairs)


def clock(samples: int) -> str:
    """Return samples as H:MM:SS."""
    minutes, s = divmod(samples // SAMPLE_RATE, 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{s:02d}"
