"""Edits of live text: the same as a transcript's, made as it is told.

What is told as stable stays: words are stable once no edit that may still come can reach them.
"""

from collections.abc import Sequence
from dataclasses import replace

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.hypothesis import WordHypothesis
from shared.speech.live.events import Final, Partial
from shared.speech.text.number_words import may_go_on
from shared.speech.text.scripts import is_unspaced_letter, space_between
from shared.speech.transcript.edits import Editor, Edits, core_of
from shared.speech.transcript.transcript import Segment, Word

_Words = Sequence[WordHypothesis]
_Speakers = Sequence[int | None]


class LiveEditor:
    """Applies edits to partials and finals."""

    def __init__(self, edits: Edits) -> None:
        self._editor = Editor(edits)
        passes = (
            Edits(spelling=edits.spelling),
            Edits(numerals=edits.numerals),
            Edits(mask=edits.mask),
        )
        self._passes = [_Pass(each) for each in passes if each != Edits()]
        """What an editor does, one after another: each edits what the one before has written."""

    def final(self, final: Final) -> Final:
        """Return a final as it is told."""
        words, speakers = _edited(self._editor, final.words, final.speakers, final.language)
        return replace(final, words=tuple(words), speakers=tuple(speakers))

    def partial(self, partial: Partial, language: str | None) -> Partial:
        """Return a partial as it is told; ``language`` is that of its words, if it is known."""
        words, _ = _edited(self._editor, partial.words, (), language)
        stable: _Words = partial.words[: partial.n_stable]
        for each in self._passes:
            stable = each.settled(stable, language)
        return replace(partial, words=tuple(words), n_stable=len(stable))


class _Pass:
    """One kind of edits."""

    def __init__(self, edits: Edits) -> None:
        self._editor = Editor(edits)
        self._numerals = edits.numerals
        self._reach = max(map(_n_words, (*edits.spelling, *edits.mask)), default=1) - 1
        """How many more words an edit may need that begins at the last one."""

    def settled(self, stable: _Words, language: str | None) -> list[WordHypothesis]:
        """Return the edited words that stay, whatever follows the stable ones."""
        whole = _texts(_edited(self._editor, stable, (), language)[0])
        for end in range(len(stable) - self._reach, 0, -1):
            if self._numerals and may_go_on(core_of(stable[end - 1].text).casefold()):
                continue
            begun = _edited(self._editor, stable[:end], (), language)[0]
            if whole[: len(begun)] == _texts(begun):
                return begun
        return []


def _edited(
    editor: Editor, words: _Words, speakers: _Speakers, language: str | None
) -> tuple[list[WordHypothesis], list[int | None]]:
    as_heard: dict[int, WordHypothesis] = {}
    of_segment: list[Word] = []
    for number, word in enumerate(words):
        before = words[number - 1].text if number else ""
        shown = Word(
            text=word.text.strip(),
            separator=_separator(before, word.text),
            start=word.start / SAMPLE_RATE,
            end=word.end / SAMPLE_RATE,
            confidence=word.confidence,
            speaker=speakers[number] if speakers else None,
        )
        as_heard[id(shown)] = word
        of_segment.append(shown)
    segment = Segment(id=0, start=0.0, end=0.0, text="", language=language, words=of_segment)
    edited, changes = editor.edit(segment)
    if not changes:
        return list(words), list(speakers)
    found = []
    for shown in edited.words:
        text = shown.separator + shown.text  # what stands between words stays between them
        if (heard := as_heard.get(id(shown))) is not None:
            found.append(replace(heard, text=text))
        else:
            begin, end = round(shown.start * SAMPLE_RATE), round(shown.end * SAMPLE_RATE)
            found.append(WordHypothesis(text, begin, end, shown.confidence))
    return found, [shown.speaker for shown in edited.words] if speakers else []


def _separator(before: str, text: str) -> str:
    """Return the white space between two words, as ``words.text_of`` writes it."""
    if not before:
        return ""
    space = before[len(before.rstrip()) :] + text[: len(text) - len(text.lstrip())]
    return space or " " * bool(space_between(before, text))


def _texts(words: _Words) -> list[str]:
    return [word.text.strip() for word in words]


def _n_words(phrase: str) -> int:
    """Return the most words that a phrase may be heard as."""
    if any(map(is_unspaced_letter, phrase)):
        return len("".join(phrase.split()))  # such scripts have a word for a few characters
    return len(phrase.split())
