"""What answers of several dialects make of words."""

from collections.abc import Iterable
from dataclasses import replace
from string import ascii_uppercase
from unicodedata import category

from shared.speech.chunks.hypothesis import WordHypothesis

_DIGITS = 4


def bare(text: str) -> str:
    """Return a word in lower case, without the punctuation before and after it."""
    is_inner = [not category(each).startswith("P") for each in text]
    if not any(is_inner):
        return text
    end = len(text) - is_inner[::-1].index(True)
    return text[is_inner.index(True) : end].lower()


def plain(words: Iterable[WordHypothesis]) -> list[WordHypothesis]:
    """Return ``bare`` words, with the white space around each of them."""
    found = []
    for word in words:
        text = word.text.strip()
        found.append(replace(word, text=word.text.replace(text, bare(text))))
    return found


def speaker_letter(speaker: int | None) -> str | None:
    """Return a speaker as A, B and so on, after Z as A1; None: nobody is known."""
    if speaker is None:
        return None
    round_, letter = divmod(speaker, len(ascii_uppercase))
    return ascii_uppercase[letter] + (str(round_) if round_ else "")


def mean_confidence(confidences: Iterable[float | None]) -> float | None:
    """Return the mean of the confidences that are known; None: none is."""
    known = [each for each in confidences if each is not None]
    return round(sum(known) / len(known), _DIGITS) if known else None
