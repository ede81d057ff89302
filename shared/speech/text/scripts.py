"""Scripts: which ones write a space between words, and how wide their characters are.

Whether a space stands between two words depends on their characters and not on the language:
Chinese with English names in it has both cases.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from unicodedata import category, east_asian_width

_UNSPACED_SCRIPTS = (
    r"\u0e00-\u0eff"  # Thai, Lao
    r"\u0f00-\u0fff"  # Tibetan
    r"\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar
    r"\u1780-\u17ff\u19e0-\u19ff"  # Khmer
    r"\u1950-\u19df\u1a20-\u1aaf"  # Tai Le, New Tai Lue, Tai Tham
    r"\ua980-\ua9df"  # Javanese
    r"\u3040-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Hiragana, Katakana
    r"\u3100-\u312f\u31a0-\u31bf"  # Bopomofo
    r"\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b"  # Han
    r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WIDE_MARKS = (
    r"\u3001-\u3003\u3008-\u301f\u3030\u30fb\ufe30-\ufe6f"
    r"\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
)
"""Punctuation that brings its own space, as it is as wide as an ideograph."""
_UNSPACED = re.compile(f"[{_UNSPACED_SCRIPTS}{_WIDE_MARKS}]")
_UNSPACED_LETTER = re.compile(f"[{_UNSPACED_SCRIPTS}]")
_JOINS_NEXT = re.compile(r"[\u0e40-\u0e44\u0ec0-\u0ec4\u1039\u17d2]\Z")
"""Vowels written before their consonant (Thai, Lao), and marks that stack the next consonant
(Myanmar, Khmer)."""


def space_between(left: str, right: str) -> bool | None:
    """Whether a space stands between two words: not beside a word of an unspaced script.

    The letters or digits next to each other decide, whatever marks stand between them. None: one
    of the words has none.
    """
    sides = _is_unspaced_at(reversed(left)), _is_unspaced_at(right)
    if True in sides:
        return False
    return None if None in sides else True


def begins_word(before: str, text: str) -> bool:
    """Whether ``text``, written right after ``before`` without a space, begins a word.

    In unspaced scripts, every unit that an engine emits is a word: a character or several. Marks
    belong to the word before them, opening ones to the word after them.
    """
    if not text or (before.isascii() and text.isascii()):
        return False
    kind = category(text[0])
    # Lm: marks of repetition and length.
    if kind[0] == "M" or kind == "Lm" or _JOINS_NEXT.search(before):
        return False
    if _UNSPACED_LETTER.match(text) and text[0].isalnum():
        return True
    is_written_anew = text[0].isalnum() or kind in ("Ps", "Pi")
    return is_written_anew and _is_unspaced_at(reversed(before)) is True


def is_unspaced_letter(character: str) -> bool:
    """Whether a character is of a script that writes no spaces between words."""
    return _UNSPACED_LETTER.match(character) is not None


def columns(text: str) -> int:
    """Return how many columns a text takes on a screen: a full-width character takes two."""
    return len(text) if text.isascii() else sum(map(_width, text))


@lru_cache(maxsize=4096)
def _width(character: str) -> int:
    if category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def _is_unspaced_at(characters: Iterable[str]) -> bool | None:
    """Whether the first character that tells is of an unspaced script; None: none tells."""
    for character in characters:
        if _UNSPACED.match(character):
            return True
        if character.isalnum():
            return False
    return None
