"""Where a run of words is broken into subtitle cues, and cues into lines.

Dynamic programming over the words finds the cues with the least total cost. A cue takes only what
wraps into its lines. Costs are in points; only their proportions matter.

The rules are those of Netflix's Timed Text Style Guide (General Requirements, Subtitle Timing
Guidelines, English; partnerhelp.netflixstudios.com) and of the BBC's Subtitle Guidelines
(bbc.co.uk/accessibility/forproducts/guides/subtitles).
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from shared.speech.files.cue_times import MAX_COLUMNS_PER_S, MAX_CUE_MS, MIN_CUE_MS, shown_until
from shared.speech.text.function_words import FUNCTION_WORDS, Kind
from shared.speech.text.scripts import columns, space_between
from shared.speech.text.sentences import ends_clause, ends_sentence, with_marks

_CUE = 8.0  # each cue: fewer cues are easier to read
# An empty cue, and an empty line beside others. The cost is proportional to the square of the empty
# share: two half-full cues cost less than a full and a tiny one, and lines are balanced.
_EMPTY = 25.0
_RAGGED = 40.0
_BETWEEN_CLAUSES = 14.0  # a break at a comma, a bracket and the like; between sentences it is free
_BETWEEN_WORDS = 60.0  # a break between other words
# Added after a word that belongs to what follows, and before one (``function_words``). Of languages
# without lists, a short word is taken for one: most are articles, prepositions or conjunctions.
_AFTER_FUNCTION_WORD = 45.0
_BEFORE_FUNCTION_WORD: dict[Kind | None, float] = {"clause": -20.0, "phrase": -10.0, "word": -2.0}
_BEFORE_SHORT_WORD = -8.0
_CUTS_OFF_A_WORD = 15.0  # added where a single word of a clause stands before or after the break
_WITHIN_WORD = 100.0  # a break within a word, or before the second part of a compound or a dash
_LINE_SHARE = 0.3  # the cost of a break between lines, as a share of one between cues
_FULL_PAUSE_MS = 800  # a break in such a pause is free; a shorter one takes off its share
# A pause of a second within a cue, because words are shown before they are said. The cost grows
# with the square of the pause.
_PAUSE_WITHIN = 32.0
_UNNOTICED_PAUSE_MS = 250  # shorter pauses within a cue cost nothing
_SENTENCE_WITHIN = 18.0  # a sentence's end within a cue: one sentence where possible (BBC, 3.2)
_TORN_SENTENCE = 0.6  # added to a break, as a share of it, if a sentence ends within the cue before
_CLAUSE_WITHIN_LINE = 15.0  # a clause's end within a line: lines are clauses where possible
_ONE_WORD = 80.0  # a cue of one word, in scripts written with spaces
_STUB = 200.0  # a line of less than a fifth of the width beside another line
_HURRIED = 15.0  # a cue shown for MIN_CUE_MS; the cost falls to nothing at _UNHURRIED_MS
_UNHURRIED_MS = 1_500
_TOO_FAST = 5.0  # each column per second above MAX_COLUMNS_PER_S
_TOO_FAST_AT_MOST = 100.0
_TOO_SHORT = 2_000.0  # a cue shown for less than MIN_CUE_MS; merging it always costs less
_MISPLACED_MARK = 100_000.0  # a line that begins with a closing mark, or ends with an opening one

_SHORT_WORD_CHARS = 3
_DASHES = frozenset("-–—")  # noqa: RUF001
_CLOSING = frozenset(
    ",;!?)]}、。，．！？；：）］｝」』〉》】،؛؟۔।॥։።፧፣፤။၊។"  # noqa: RUF001
    "々ーぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ"
)
"""Characters that never begin a line: closing marks, and what belongs to the one before them."""
_CLOSING_ALONE = frozenset('.:…»”’"%')  # noqa: RUF001
"""Marks that begin a line only where letters follow."""
_OPENING = frozenset("([{„‚¿¡（［｛「『〈《【")  # noqa: RUF001
"""Marks that never end a line."""


@dataclass(frozen=True, slots=True)
class Token:
    """A word, or a part of a word that is longer than a line."""

    text: str
    start_ms: int
    end_ms: int
    separator: str = " "
    """Between it and the token before it on a line: a space or nothing."""
    is_rest: bool = False
    """Whether it is another part of the same word as the token before it."""
    language: str | None = None
    speaker: int | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """The lines of a cue, and when its words are spoken."""

    lines: tuple[str, ...]
    n_tokens: int
    start_ms: int
    last_start_ms: int
    """Of its last word."""
    end_ms: int


def must_not_begin(text: str) -> bool:
    """Whether no line may begin with the text: it starts with a closing or a combining mark."""
    first = text[:1]
    if first in _CLOSING_ALONE:
        return not any(map(str.isalnum, text))
    return first in _CLOSING or unicodedata.category(first).startswith("M")


class Passage:
    """A run of words of one language, and the costs of breaks between them.

    A break has the index of the token after it. Cues and lines are tokens [first, stop).
    """

    def __init__(
        self,
        tokens: Sequence[Token],
        next_start_ms: int | None,
        line_columns: int,
        *,
        max_lines: int,
        max_words: int | None,
    ) -> None:
        """Compute the costs.

        Args:
            tokens: at least one, in order of time, none longer than a line.
            next_start_ms: start of what is said after them; None: nothing is.
            line_columns: longest line; a full-width character takes two.
            max_lines: most lines of a cue.
            max_words: most words of a cue; None: as many as fit.
        """
        self._tokens = tokens
        self._line_columns = line_columns
        self._max_lines = max_lines
        self._max_words = len(tokens) if max_words is None else max_words
        self._next_starts = [*(token.start_ms for token in tokens[1:]), next_start_ms]
        # The columns at which each token begins and ends if all the text were on one line.
        self._begins, self._ends = [0], [columns(tokens[0].text)]
        self._break_costs, self._line_break_costs = [0.0], [0.0]
        # Cumulative costs of pauses and sentences' ends within a cue, and counts of ends.
        self._within = [0.0]
        self._sentences = [0]
        self._clauses = [0]
        begins_clause = True
        text = ""  # the last word, with the marks after it
        for token, following in pairwise(tokens):
            text = with_marks(text, token.text)
            self._begins.append(self._ends[-1] + columns(following.separator))
            self._ends.append(self._begins[-1] + columns(following.text))
            is_end = ends_sentence(text, following.text, token.language)
            begins_clause = self._add_break(
                token, following, begins_clause=begins_clause, is_end=is_end
            )
        self._break_costs.append(0.0)

    def _add_break(
        self, token: Token, following: Token, *, begins_clause: bool, is_end: bool
    ) -> bool:
        """Note what a break between two tokens costs; return whether a clause begins after it."""
        pause_ms = following.start_ms - token.end_ms
        cost = self._cost_of_break(token, following, begins_clause=begins_clause, is_end=is_end)
        is_misplaced = token.text[-1:] in _OPENING or must_not_begin(following.text)
        misplaced = _MISPLACED_MARK * is_misplaced
        # What binds two words more than others is no weaker in a pause, or between lines.
        usual, bond = min(cost, _BETWEEN_WORDS), max(0.0, cost - _BETWEEN_WORDS)
        relief = 1 - min(1.0, max(0, pause_ms) / _FULL_PAUSE_MS)
        within = _SENTENCE_WITHIN if is_end else 0.0
        if pause_ms > _UNNOTICED_PAUSE_MS:
            within += _PAUSE_WITHIN * (pause_ms / 1000) ** 2
        self._break_costs.append(usual * relief + bond + misplaced)
        self._line_break_costs.append(usual * _LINE_SHARE + bond + misplaced)
        self._within.append(self._within[-1] + within)
        self._sentences.append(self._sentences[-1] + is_end)
        is_clause_end = cost <= _BETWEEN_CLAUSES
        self._clauses.append(self._clauses[-1] + is_clause_end)
        return is_clause_end

    def _cost_of_break(
        self, token: Token, following: Token, *, begins_clause: bool, is_end: bool
    ) -> float:
        if is_end:
            return 0
        if following.is_rest or following.text[0] in _DASHES:
            return _WITHIN_WORD
        if ends_clause(token.text) or following.text[0] in _OPENING:
            return _BETWEEN_CLAUSES
        cost = _BETWEEN_WORDS
        if space_between(token.text, following.text) is False:
            # Words of unspaced scripts: a space that the model wrote separates clauses.
            return _BETWEEN_CLAUSES if following.separator else cost
        if begins_clause or ends_clause(following.text) or ends_sentence(following.text):
            cost += _CUTS_OFF_A_WORD
        listed = FUNCTION_WORDS.get(token.language or "")
        if listed is None:
            belongs = len(token.text) <= _SHORT_WORD_CHARS
            relief = _BEFORE_SHORT_WORD * (len(following.text) <= _SHORT_WORD_CHARS)
        else:
            belongs = token.text.lower() in listed
            relief = _BEFORE_FUNCTION_WORD.get(listed.get(following.text.lower()), 0.0)
        return cost + (_AFTER_FUNCTION_WORD if belongs or token.text.endswith(".") else relief)

    def drafts(self) -> list[Draft]:
        """Return the cues with the least total cost."""
        n_tokens = len(self._tokens)
        costs = [0.0] + [inf] * n_tokens
        best: list[tuple[int, tuple[int, ...]]] = [(0, ())] * (n_tokens + 1)
        most_columns = self._max_lines * (self._line_columns + 1)
        for stop in range(1, n_tokens + 1):
            n_begun = 0  # words that begin within the cue
            for first in range(stop - 1, -1, -1):
                if self._ends[stop - 1] - self._begins[first] > most_columns:
                    break
                spoken_ms = self._tokens[stop - 1].end_ms - self._tokens[first].start_ms
                if spoken_ms > MAX_CUE_MS and stop - first > 1:
                    break
                n_begun += not self._tokens[first].is_rest
                if n_begun + self._tokens[first].is_rest > self._max_words:
                    break
                cost = costs[first] + self._cost_of_cue(first, stop)
                if cost >= costs[stop]:
                    continue
                wrapped = self._wrap(first, stop, self._max_lines)
                if wrapped is not None and cost + wrapped[0] < costs[stop]:
                    costs[stop], best[stop] = cost + wrapped[0], (first, wrapped[1])
        drafts = []
        stop = n_tokens
        while stop:
            first, line_breaks = best[stop]
            drafts.append(self._draft(first, stop, line_breaks))
            stop = first
        return drafts[::-1]

    def _cost_of_cue(self, first: int, stop: int) -> float:
        """Return the cost of a cue and the break after it, without its line breaks."""
        start, last = self._tokens[first].start_ms, self._tokens[stop - 1]
        n_columns = self._ends[stop - 1] - self._begins[first]
        until = shown_until(
            start, last.start_ms, last.end_ms, n_columns, self._next_starts[stop - 1]
        )
        shown_ms = until - start
        cost = _CUE + self._break_costs[stop] + self._within[stop - 1] - self._within[first]
        if self._sentences[stop - 1] > self._sentences[first]:
            cost += _TORN_SENTENCE * self._break_costs[stop]
        cost += _EMPTY * (1 - n_columns / (self._line_columns * self._max_lines)) ** 2
        if shown_ms < MIN_CUE_MS:
            cost += _TOO_SHORT
        elif shown_ms < _UNHURRIED_MS:
            cost += _HURRIED * (_UNHURRIED_MS - shown_ms) / (_UNHURRIED_MS - MIN_CUE_MS)
        too_fast = n_columns * 1000 / shown_ms - MAX_COLUMNS_PER_S
        if too_fast > 0:
            cost += min(_TOO_FAST_AT_MOST, _TOO_FAST * too_fast)
        if stop - first == 1 and space_between(last.text, last.text) is not False:
            cost += _ONE_WORD
        return cost

    def _wrap(self, first: int, stop: int, n_lines: int) -> tuple[float, tuple[int, ...]] | None:
        """Break a cue, or the rest of one, into lines.

        Returns:
            The cost and the line breaks; None where it does not fit into ``n_lines``.
        """
        begin, end = self._begins[first], self._ends[stop - 1]
        if end - begin <= self._line_columns:
            is_only = n_lines == self._max_lines
            within = self._clauses_within(first, stop)
            return within + (0 if is_only else self._cost_of_line(end - begin)), ()
        if n_lines == 1:
            return None
        best = None
        for at in range(first + 1, stop):
            n_columns = self._ends[at - 1] - begin
            if n_columns > self._line_columns:
                break
            rest = self._wrap(at, stop, n_lines - 1)
            if rest is None:
                continue
            cost = self._line_break_costs[at] + self._cost_of_line(n_columns) + rest[0]
            cost += self._clauses_within(first, at)
            if best is None or cost < best[0]:
                best = cost, (at, *rest[1])
        return best

    def _clauses_within(self, first: int, stop: int) -> float:
        """Return the cost of the clauses' ends within a line."""
        return _CLAUSE_WITHIN_LINE * (self._clauses[stop - 1] - self._clauses[first])

    def _cost_of_line(self, n_columns: int) -> float:
        """Return the cost of the length of a line beside others."""
        filled = n_columns / self._line_columns
        return _RAGGED * (1 - filled) ** 2 + (_STUB if filled < 1 / 5 else 0)

    def _draft(self, first: int, stop: int, line_breaks: tuple[int, ...]) -> Draft:
        tokens = self._tokens
        lines = (
            tokens[begin].text + "".join(t.separator + t.text for t in tokens[begin + 1 : end])
            for begin, end in pairwise((first, *line_breaks, stop))
        )
        last = tokens[stop - 1]
        return Draft(tuple(lines), stop - first, tokens[first].start_ms, last.start_ms, last.end_ms)
