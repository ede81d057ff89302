"""Which words end a sentence or a clause.

A full stop ends a sentence or an abbreviation. Lists of abbreviations tell which, for the larger
languages, and so does the next word: no sentence begins with a lower-case letter.

No library decides it: sentencex, pysbd and syntok split texts, whereas words come one at a time.
On hard cases in 31 languages they cut more sentences in two (docs/fidelity.md).
"""

import re

from shared.speech.text.abbreviations import BEFORE_A_NAME, BEFORE_A_NUMBER, MID_SENTENCE

SENTENCE_ENDS = frozenset(".?!…‼⁇⁈⁉。！？｡．؟۔।॥։።፧။។")  # noqa: RUF001 (other scripts are meant)
"""Last characters of words that end a sentence, in the scripts of the catalogue's languages."""
CLAUSE_ENDS = frozenset(",;:–—،؛、，；：､՝፣፤၊")  # noqa: RUF001
"""Last characters of words that end a clause."""
CLOSING_MARKS = "\"'”’“‘»«)]』」）"  # noqa: RUF001
"""Marks that may follow a sentence's end within the word; German closes with “ and «."""
_CLOSING_BRACKETS = frozenset('"”“»«)]』」）')  # noqa: RUF001
"""Closing marks that are not used as apostrophes."""
_OPENING_MARKS = "\"'“‘„‚«»([¿¡-–—"  # noqa: RUF001
"""Marks that may stand before a word's first letter."""
_ENDING_MARKS = (_CLOSING_BRACKETS - set('"“«')) | SENTENCE_ENDS
"""Marks that belong to the word before them where they stand alone, in most languages."""
_GREEK_QUESTION_MARKS = (";", "\u037e")
_ORDINAL_LANGUAGES = frozenset(
    {"de", "lb", "da", "no", "nb", "nn", "is", "fo", "fi", "et", "lv", "lt"}
    | {"pl", "cs", "sk", "sl", "hr", "bs", "sr", "hu", "tr"}
)
"""Languages that write "5." for "5th"."""
_WORDS_OF_ONE_LETTER = frozenset(
    {("en", "I"), ("fr", "y"), ("it", "è"), ("pt", "é"), ("ru", "я"), ("uk", "я"), ("sv", "ö")}
)
"""By language: a full stop after one of them ends a sentence, unlike after an initial."""
_TIMES_OF_DAY = frozenset({"a.m", "p.m"})


def with_marks(before: str, word: str) -> str:
    """Return a word; where it is marks alone, the word before it and the marks.

    French writes a space before some marks ("Viens ! »"), and some engines write all marks apart.
    """
    return word if any(map(str.isalnum, word)) else before + word


def ends_sentence(word: str, following: str | None = None, language: str | None = None) -> bool:
    """Whether a sentence ends with this word.

    Args:
        word: with its punctuation, also where that stands apart (``with_marks``).
        following: the next word; None where there is none or it is not known.
        language: ISO 639 code; None: English abbreviations are looked for.
    """
    bare = word.rstrip(CLOSING_MARKS)
    if bare[-1:] not in SENTENCE_ENDS:
        return language == "el" and bare.endswith(_GREEK_QUESTION_MARKS)
    if following is not None:
        if _ENDING_MARKS.issuperset(following):  # the end comes after these
            return False
        if following.lstrip(_OPENING_MARKS)[:1].islower():
            return False
    if not bare.endswith(".") or bare.endswith(".."):
        return True
    return not _is_abbreviation(bare[:-1].lstrip(_OPENING_MARKS), following, language or "en")


def ends_clause(word: str) -> bool:
    """Whether a clause, or a part of one between marks, ends with this word."""
    bare = word.rstrip(CLOSING_MARKS)
    return (
        bare[-1:] in CLAUSE_ENDS
        or (bare[-1:] in SENTENCE_ENDS and bare[-1:] != ".")
        or bare.endswith(("--", "..."))
        or word[-1:] in _CLOSING_BRACKETS
    )


def is_punctuated(word: str) -> bool:
    """Whether a mark ends this word that could end a sentence or a clause."""
    return ends_clause(word) or word.endswith(".")


def _is_abbreviation(stem: str, following: str | None, language: str) -> bool:
    """Whether the full stop after ``stem`` marks an abbreviation."""
    part = re.split(r"[-'’]", stem)[-1]  # noqa: RUF001 - of "Dipl.-Ing", "l'art"
    lowered = part.lower()
    before_number = following is not None and following.lstrip(_OPENING_MARKS)[:1].isdigit()
    if lowered in _of(BEFORE_A_NUMBER, language) and (before_number or len(part) > 1):
        return before_number
    if lowered in _TIMES_OF_DAY:
        return False
    return (
        _is_initial(stem, language)
        or re.fullmatch(r"[^\W\d]{1,3}(\.[^\W\d]{1,3})+", part) is not None  # "e.g", "U.S", "z.B"
        or lowered in _of(BEFORE_A_NAME, language)
        or lowered in _of(MID_SENTENCE, language)
        or (language in _ORDINAL_LANGUAGES and re.fullmatch(r"\d{1,2}", stem) is not None)
    )


def _is_initial(stem: str, language: str) -> bool:
    """Whether a stem is a single letter: "J", "z", the last one of "J.-P"."""
    letter = stem[-1:]
    is_single = len(stem) == 1 or stem[-3:-1] == ".-"
    return is_single and letter.isalpha() and (language, stem) not in _WORDS_OF_ONE_LETTER


def _of(words: dict[str, frozenset[str]], language: str) -> frozenset[str]:
    return words.get({"nb": "no", "nn": "no"}.get(language, language), frozenset())
