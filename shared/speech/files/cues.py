"""Subtitle cues: what is on the screen, and when.

Cues are built from words and their times, across segments. ``cue_breaks`` breaks up the words. A
channel has at most one cue at a time. Words are read some ten cues ahead, so memory does not grow
with the transcript.
"""

import heapq
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from shared.speech.files.cue_breaks import Draft, Passage, Token, must_not_begin
from shared.speech.files.cue_times import shown_until
from shared.speech.text.scripts import columns
from shared.speech.transcript.transcript import Header, Segment

LINE_COLUMNS = 42
"""Longest line (Netflix, for Latin scripts). A full-width character takes two columns. A channel's
or speaker's name is added to it."""
FULL_WIDTH_LINE_COLUMNS = 32
"""Longest line in languages of full-width characters: 16 of these (Netflix, for Chinese)."""
_FULL_WIDTH_LANGUAGES = frozenset({"ja", "ko", "yue", "zh"})
CUE_LINES = 2
"""Most lines of a cue (Netflix)."""
MIN_LINE_COLUMNS, MAX_LINE_COLUMNS = 10, 200
"""Bounds of the line length that a client may choose. A narrower line would cut most words."""
MAX_CUE_LINES = 4
"""Most lines that a client may choose: more would cover the picture."""
MAX_CUE_WORDS = 100
"""Most words of a cue that a client may choose: more fit into no cue."""
LONG_PAUSE_MS = 1_500
"""No cue spans such a pause: text comes at most 1.5 s before its speech (BBC, 5.2)."""

_BREAKS = re.compile(r"\s*[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]\s*")

_AHEAD_CUES = 8
"""Full cues that are broken up together. The last ones are broken up again with what follows."""


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines shown from ``start_ms`` until ``end_ms``."""

    lines: tuple[str, ...]
    start_ms: int
    end_ms: int
    channel: int | None = None
    speaker: int | None = None


def make_cues(
    header: Header,
    segments: Iterable[Segment],
    *,
    line_columns: int | None = None,
    max_lines: int = CUE_LINES,
    max_words: int | None = None,
) -> Iterator[Cue]:
    """Yield subtitle cues by start time; every word is in exactly one, no two of a channel overlap.

    A cue has one speaker's words.

    The segments are in order, and iterated over once for each channel. Lines are no longer than
    ``line_columns``; None: than is usual for the language of their words. A word that is longer
    than a line may be in several cues.
    """
    channels = [None] if header.channels is None else range(header.channels)

    def columns_of_line(language: str | None) -> int:
        usual = FULL_WIDTH_LINE_COLUMNS if language in _FULL_WIDTH_LANGUAGES else LINE_COLUMNS
        return line_columns or usual

    passes = (
        _cues_of_channel(
            _drafts(
                _tokens(header, segments, channel, columns_of_line),
                columns_of_line,
                max_lines,
                max_words,
            ),
            channel,
        )
        for channel in channels
    )
    return heapq.merge(*passes, key=lambda cue: cue.start_ms)


def _cues_of_channel(
    drafts: Iterator[tuple[int | None, Draft]], channel: int | None
) -> Iterator[Cue]:
    free_from = 0
    found = next(drafts, None)
    while found is not None:
        speaker, draft = found
        following = next(drafts, None)
        start = max(draft.start_ms, free_from)
        next_start = None if following is None else following[1].start_ms
        n_columns = sum(map(columns, draft.lines))
        end = shown_until(start, draft.last_start_ms, draft.end_ms, n_columns, next_start)
        yield Cue(draft.lines, start, end, channel, speaker)
        free_from, found = end, following


_ColumnsOfLine = Callable[[str | None], int]
"""The longest line by language."""


def _drafts(
    tokens: Iterable[Token],
    columns_of_line: _ColumnsOfLine,
    max_lines: int,
    max_words: int | None,
) -> Iterator[tuple[int | None, Draft]]:
    """Break words up passage by passage, and a long passage while its words come.

    A passage has one speaker, who is returned with its drafts.
    """
    break_up = partial(Passage, max_lines=max_lines, max_words=max_words)
    passage: list[Token] = []
    n_columns = 0
    for token in tokens:
        if passage:
            last = passage[-1]
            line_columns = columns_of_line(last.language)
            pause_ms = token.start_ms - last.end_ms
            is_other = (token.language, token.speaker) != (last.language, last.speaker)
            if is_other or pause_ms >= LONG_PAUSE_MS:
                for draft in break_up(passage, token.start_ms, line_columns).drafts():
                    yield last.speaker, draft
                passage, n_columns = [], 0
            elif n_columns >= _AHEAD_CUES * line_columns * max_lines:
                drafts = break_up(passage, token.start_ms, line_columns).drafts()
                # What follows may change the last ones.
                settled = drafts[: len(drafts) * 3 // 4]
                for draft in settled:
                    yield last.speaker, draft
                del passage[: sum(draft.n_tokens for draft in settled)]
                n_columns = sum(columns(kept.separator + kept.text) for kept in passage)
        passage.append(token)
        n_columns += columns(token.separator + token.text)
    if passage:
        last = passage[-1]
        line_columns = columns_of_line(last.language)
        for draft in break_up(passage, None, line_columns).drafts():
            yield last.speaker, draft


def _tokens(
    header: Header,
    segments: Iterable[Segment],
    channel: int | None,
    columns_of_line: _ColumnsOfLine,
) -> Iterator[Token]:
    """Yield a channel's words in order of time, those longer than a line in parts."""
    free_from = 0
    for segment in segments:
        if segment.channel != channel:
            continue
        language = segment.language or header.language
        for word in segment.words:
            text = one_line(word.text)
            start = max(free_from, milliseconds(word.start))
            end = max(start, milliseconds(word.end))
            free_from = start
            at = 0
            for until in _ends_of_parts(text, columns_of_line(language)):
                yield Token(
                    text[at:until],
                    start + (end - start) * at // len(text),
                    start + (end - start) * until // len(text),
                    "" if at else " " * bool(word.separator),
                    at > 0,
                    language,
                    segment.speaker,
                )
                at = until


def _ends_of_parts(text: str, line_columns: int) -> Iterator[int]:
    """Yield the ends of a word's parts, which have about equal width and fit into a line."""
    at = 0
    while at < len(text):
        left = columns(text[at:])
        n_parts = max(1, -(-left // line_columns))
        width = -(-left // n_parts)
        until = at + 1
        while until < len(text) and columns(text[at : until + 1]) <= width:
            until += 1
        while until - at > 1 and until < len(text) and must_not_begin(text[until:]):
            until -= 1
        yield until
        at = until


def milliseconds(seconds: float) -> int:
    """Return seconds as whole milliseconds."""
    return round(seconds * 1000)


def one_line(text: str) -> str:
    """Return text without line breaks and tabs: they would end a line or a column."""
    return _BREAKS.sub(" ", text).strip()
