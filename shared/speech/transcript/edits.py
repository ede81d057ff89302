"""What a client wants changed in the text: spellings, numbers as digits, words that are masked.

Edits apply to words, which keep their times, so every format shows the same. The transcript is
stored as it was heard and edited as it is read: the text before the edits stays readable.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.speech.text.number_words import find_numbers
from shared.speech.text.scripts import is_unspaced_letter
from shared.speech.transcript.corrections import correct
from shared.speech.transcript.transcript import Segment, Word, join_words

NUMERALS_LANGUAGE = "en"


class Edits(BaseModel):
    """The edits of a job's transcript."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    spelling: dict[str, str] = Field(
        default={}, description="what is written in place of words, whose case does not count"
    )
    numerals: bool = Field(default=False, description="English number words are digits")
    mask: list[str] = Field(default=[], description="words that are shown as asterisks")


class Change(BaseModel):
    """A change of the text."""

    kind: Literal["spelling", "numerals", "mask", "correction"]
    segment: int = Field(description="id of its segment")
    start: float = Field(description="seconds into the original file")
    end: float = Field(description="seconds into the original file")
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class EditedSegments:
    """Segments with edits and corrections. Each iteration reads and changes them anew."""

    segments: Iterable[Segment]
    edits: Edits
    corrections: Mapping[int, str] = field(default_factory=dict)
    """What corrected segments say, by their ids; an empty text leaves its segment out."""

    def __iter__(self) -> Iterator[Segment]:
        editor = Editor(self.edits)
        for segment in self.segments:
            shown = self._correct(editor.edit(segment)[0])
            if shown is not None:
                yield shown

    def changes(self) -> Iterator[Change]:
        """Yield what edits and corrections change, in order; the corrections are the last."""
        editor = Editor(self.edits)
        for segment in self.segments:
            edited, changes = editor.edit(segment)
            yield from changes
            written = self.corrections.get(segment.id, edited.text)
            if written != edited.text:
                yield Change(
                    kind="correction",
                    segment=segment.id,
                    start=segment.start,
                    end=segment.end,
                    before=edited.text,
                    after=written,
                )

    def _correct(self, segment: Segment) -> Segment | None:
        return correct(segment, self.corrections.get(segment.id, segment.text))


class Editor:
    """Applies edits to segments."""

    def __init__(self, edits: Edits) -> None:
        self._numerals = edits.numerals
        self._phrases = [
            _Phrase.of("spelling", phrase, written) for phrase, written in edits.spelling.items()
        ]
        self._masked = [_Phrase.of("mask", phrase, None) for phrase in edits.mask]

    def edit(self, segment: Segment) -> tuple[Segment, list[Change]]:
        """Return a segment with the edits, and what was changed, in the order of time."""
        changes: list[Change] = []
        words = _replace(segment, segment.words, self._phrases, changes)
        if self._numerals and segment.language in (None, NUMERALS_LANGUAGE):
            words = _with_digits(segment, words, changes)
        words = _replace(segment, words, self._masked, changes)
        if not changes:
            return segment, []
        changed = {"words": words, "text": join_words(words)}
        changes.sort(key=lambda change: (change.start, change.end))
        return segment.model_copy(update=changed), changes


@dataclass(frozen=True, slots=True)
class _Phrase:
    """Words to be found, and what is written in their place."""

    kind: Literal["spelling", "mask"]
    letters: str
    """The words, folded, without what stands between them."""
    n_words: int | None
    """None: however many; scripts that write no spaces have a word for a few characters."""
    written: str | None
    """None: asterisks."""

    @classmethod
    def of(cls, kind: Literal["spelling", "mask"], phrase: str, written: str | None) -> "_Phrase":
        words = [_core(word)[1].casefold() for word in phrase.split()]
        letters = "".join(words)
        is_unspaced = any(map(is_unspaced_letter, letters))
        return cls(kind, letters, None if is_unspaced else len(words), written)

    def length_at(self, cores: Sequence[str], at: int) -> int:
        """Return how many words from ``at`` on are this phrase; 0: they are not."""
        letters = ""
        for n, core in enumerate(cores[at:], start=1):
            letters += core
            if letters and letters == self.letters:
                return n if self.n_words in (None, n) else 0
            if not core or not self.letters.startswith(letters):
                return 0
        return 0


def core_of(text: str) -> str:
    """Return a word without the marks around it."""
    return _core(text)[1]


def _core(text: str) -> tuple[str, str, str]:
    """Return a word without the marks around it, between these."""
    start, stop = 0, len(text)
    while start < stop and not _is_letter(text[start]):
        start += 1
    while stop > start and not _is_letter(text[stop - 1]):
        stop -= 1
    return text[:start], text[start:stop], text[stop:]


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def _replace(
    segment: Segment, words: Sequence[Word], phrases: Sequence[_Phrase], changes: list[Change]
) -> list[Word]:
    cores = [_core(word.text)[1].casefold() for word in words]
    replaced: list[Word] = []
    at = 0
    while at < len(words):
        lengths = [(phrase.length_at(cores, at), phrase) for phrase in phrases]
        length, phrase = max(lengths, key=lambda each: each[0], default=(0, None))
        if not length or phrase is None:
            replaced.append(words[at])
            at += 1
            continue
        found = words[at : at + length]
        written = phrase.written
        if written is None:
            written = "*" * len(_core(join_words(found))[1])
        replaced += _write(segment, found, written, phrase.kind, changes)
        at += length
    return replaced


def _with_digits(segment: Segment, words: Sequence[Word], changes: list[Change]) -> list[Word]:
    spoken = []
    for word in words:
        before, core, after = _core(word.text)
        # A mark after a word ends a number, and so does one before the next.
        spoken += ([""] if before else []) + [core.casefold()] + ([""] if after else [])
    places = []
    for n, word in enumerate(words):
        before, _, after = _core(word.text)
        places += ([-1] if before else []) + [n] + ([-1] if after else [])
    written: list[Word] = []
    at = 0
    for number in find_numbers(spoken):
        start, stop = places[number.start], places[number.stop - 1] + 1
        written += words[at:start]
        written += _write(segment, words[start:stop], number.digits, "numerals", changes)
        at = stop
    return [*written, *words[at:]]


def _write(
    segment: Segment,
    found: Sequence[Word],
    text: str,
    kind: Literal["spelling", "numerals", "mask"],
    changes: list[Change],
) -> list[Word]:
    """Return words that say ``text`` in the time of those found, with the marks around them."""
    first, last = found[0], found[-1]
    parts = text.split()
    before, after = _core(first.text)[0], _core(last.text)[2]
    if parts:
        parts[0] = before + parts[0]
        parts[-1] += after
    elif before + after:
        parts = [before + after]
    said, shown = join_words(found), " ".join(parts)
    if said == shown:
        return list(found)
    changes.append(
        Change(
            kind=kind, segment=segment.id, start=first.start, end=last.end, before=said, after=shown
        )
    )
    if len(parts) == len(found):
        return [
            word.model_copy(update={"text": part}) for word, part in zip(found, parts, strict=True)
        ]
    return list(_spread(parts, found))


def _spread(parts: Sequence[str], found: Sequence[Word]) -> Iterator[Word]:
    """Yield words in the time of those found, which others are as many as; in equal shares."""
    start, end = found[0].start, found[-1].end
    known = [word.confidence for word in found if word.confidence is not None]
    confidence = min(known) if len(known) == len(found) else None
    for n, part in enumerate(parts):
        yield Word(
            text=part,
            separator=" " if n else found[0].separator,
            start=round(start + (end - start) * n / len(parts), 3),
            end=round(start + (end - start) * (n + 1) / len(parts), 3),
            confidence=confidence,
            speaker=found[0].speaker,
            overlap=any(word.overlap for word in found),
        )
