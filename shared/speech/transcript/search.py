"""Search in transcripts: the terms of a text, what a query asks for, and where a segment has it.

A word is a term, without its case and accents. Scripts that write no spaces between words have no
words to be found by, so of them, and of Hangul, whose particles are written to their nouns, each
pair of neighbouring characters is a term; the last character of a run is one alone. Terms that
follow each other in a query's word or phrase must do so in the text: that is how pairs make words.

No stemming: what is found is what was said. ``word*`` finds all that begins with it.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from shared.speech.text.scripts import is_unspaced_letter
from shared.speech.transcript.transcript import Segment

_MAX_TERM_CHARS = 64
"""Longer words are cut off: a lexeme of Postgres has at most 2,046 bytes."""
_ACCENTS = re.compile("[\u0300-\u036f]")
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff]")
_PIECES = re.compile(r'"([^"]*)"?|(\S+)')


@dataclass(frozen=True, slots=True)
class Term:
    """A term where it stands in a text."""

    text: str
    start: int
    """Index of its first character in the folded text."""
    stop: int
    is_tail: bool = False
    """Whether it is the last character of a run without spaces, alone."""


@dataclass(frozen=True, slots=True)
class WantedTerm:
    """A term that a query asks for."""

    text: str
    is_prefix: bool = False
    """Whether terms that only begin with it count, too."""

    def is_met_by(self, term: str) -> bool:
        """Whether a term of a text is what is asked for."""
        return term.startswith(self.text) if self.is_prefix else term == self.text


Query = Sequence[Sequence[WantedTerm]]
"""Phrases, all of which a segment must have; their terms follow each other."""


@dataclass(frozen=True, slots=True)
class Match:
    """Words of a segment that a query asks for."""

    text: str
    start: float
    """Seconds into the original file."""
    end: float


def fold(text: str) -> str:
    """Return the text as terms are made of it: without case, accents and forms of width."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    if plain.isascii():
        return plain
    bare = _ACCENTS.sub("", unicodedata.normalize("NFD", plain))
    return unicodedata.normalize("NFC", bare)


def terms_of(folded: str) -> Iterator[Term]:
    """Yield the terms of a folded text, in order."""
    start, kind = 0, ""
    for at in range(len(folded) + 1):
        now = _kind(folded[at]) if at < len(folded) else ""
        if now == "mark" and kind:
            continue
        if now == kind:
            continue
        if kind == "word":
            yield Term(folded[start:at][:_MAX_TERM_CHARS], start, at)
        elif kind == "run":
            for first in range(start, at - 1):
                yield Term(folded[first : first + 2], first, first + 2)
            yield Term(folded[at - 1 : at], at - 1, at, is_tail=True)
        start, kind = at, now if now != "mark" else "word"


@lru_cache(maxsize=8192)
def _kind(character: str) -> str:
    """Return what a character is part of: a word, a run without spaces, either, or neither."""
    kind = unicodedata.category(character)[0]
    if kind not in "LMN":
        return ""
    if is_unspaced_letter(character) or _HANGUL.match(character):
        return "run"
    return "mark" if kind == "M" else "word"


def parse_query(text: str) -> Query:
    """Return what a query asks for: words, ``"phrases"`` and ``beginnings*``; perhaps nothing."""
    phrases = []
    for quoted, word in _PIECES.findall(text):
        terms = list(terms_of(fold(quoted or word)))
        if not terms:
            continue
        last = terms[-1]
        if last.is_tail and len(terms) > 1 and terms[-2].stop == last.stop:
            terms.pop()  # the text may go on after it
        wanted = [WantedTerm(each.text) for each in terms]
        if word.endswith("*") or terms[-1].is_tail:
            wanted[-1] = WantedTerm(terms[-1].text, is_prefix=True)
        phrases.append(wanted)
    return phrases


def find_matches(segment: Segment, query: Query) -> list[Match]:
    """Return where a segment has the phrases of a query, in order."""
    folded, owners = "", []
    for number, word in enumerate(segment.words):
        shown = (" " if word.separator else "") + fold(word.text)
        folded += shown
        owners += [number] * len(shown)
    terms = list(terms_of(folded))
    found = set()
    for phrase in query:
        for at in range(len(terms) - len(phrase) + 1):
            stretch = terms[at : at + len(phrase)]
            if all(map(WantedTerm.is_met_by, phrase, (term.text for term in stretch))):
                stop = stretch[-1].stop
                if phrase[-1].is_prefix and _kind(phrase[-1].text[-1]) == "run":
                    stop = stretch[-1].start + len(phrase[-1].text)
                found.add((owners[stretch[0].start], owners[stop - 1]))
    return [
        Match(_text(segment, first, last), segment.words[first].start, segment.words[last].end)
        for first, last in sorted(found)
    ]


def _text(segment: Segment, first: int, last: int) -> str:
    words = segment.words[first : last + 1]
    return words[0].text + "".join(word.separator + word.text for word in words[1:])


def numbered(terms: Iterable[Term]) -> dict[str, list[int]]:
    """Return the places of each term, counted from 1."""
    places: dict[str, list[int]] = {}
    for place, term in enumerate(terms, start=1):
        places.setdefault(term.text, []).append(place)
    return places
