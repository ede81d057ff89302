"""Words of a session: their places on its clock, and their text."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import takewhile

from shared.speech.chunks.hypothesis import Hypothesis, WordHypothesis
from shared.speech.text.scripts import space_between

CLEAR = 0.5
"""Confidence from which a model takes a word for right rather than wrong."""


def placed(hypothesis: Hypothesis, offset: int) -> list[WordHypothesis]:
    """Return the words with times in samples of the session; the audio began at ``offset``."""
    return [
        replace(word, start=offset + word.start, end=offset + word.end)
        for word in hypothesis.words
        if word.text.strip()
    ]


def middle(word: WordHypothesis) -> int:
    """Return the sample in the middle of a word."""
    return (word.start + word.end) // 2


def spelling(word: WordHypothesis) -> str:
    """Return what two hearings of a word have in common: letters and digits in lower case."""
    text = word.text.strip().casefold()
    return "".join(filter(str.isalnum, text)) or text


def n_alike(some: Sequence[WordHypothesis], others: Sequence[WordHypothesis]) -> int:
    """Return how many words at the beginning of both are the same."""
    pairs = zip(some, others, strict=False)
    return sum(1 for _ in takewhile(lambda pair: spelling(pair[0]) == spelling(pair[1]), pairs))


def is_clear(word: WordHypothesis) -> bool:
    """Return whether a model takes a word for right rather than wrong, or does not say."""
    return word.confidence is None or word.confidence >= CLEAR


def text_of(words: Iterable[WordHypothesis]) -> str:
    """Return the running text, with the white space that the model wrote or the script needs."""
    parts: list[str] = []
    previous = ""
    for word in words:
        if previous:
            space = previous[len(previous.rstrip()) :]
            space += word.text[: len(word.text) - len(word.text.lstrip())]
            parts.append(space or " " * bool(space_between(previous, word.text)))
        parts.append(word.text.strip())
        previous = word.text
    return "".join(parts)
