"""Hypotheses: what an engine heard in a chunk."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from shared.speech.audio.spans import Span, spans_from_json, spans_to_json
from shared.speech.chunks.chunk import Chunk


@dataclass(frozen=True, slots=True)
class WordHypothesis:
    """A word as an engine heard it; start and end are samples from the chunk's first one."""

    text: str
    """With the white space that the model wrote around it. Without any before it, there is a space
    where its script and that of the word before need one (``text.scripts.space_between``)."""
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


def hypothesis_to_json(hypothesis: Hypothesis) -> dict[str, Any]:
    """Return a hypothesis as a step's output.

    Words are [text, start, end, confidence], and [..., tokens] where they have any.
    """
    decoding = hypothesis.decoding
    return {
        "language": hypothesis.language,
        "language_probability": hypothesis.language_probability,
        "loop_suspected": hypothesis.loop_suspected,
        "unheard": spans_to_json(hypothesis.unheard),
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
        unheard=spans_from_json(data.get("unheard", ())),
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
