"""Where a channel's words are cut into segments: at the ends of sentences.

A segment is a sentence, or a part of one that is too long. Text without punctuation, as CTC models
write it, is cut at pauses. Words are read at most a minute ahead, so memory does not grow with the
transcript.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby, pairwise
from typing import NamedTuple

from shared.speech.text.scripts import space_between
from shared.speech.text.sentences import ends_clause, ends_sentence, is_punctuated, with_marks
from shared.speech.transcript.transcript import Segment, SegmentDecoding, Word, join_words

MAX_SEGMENT_S = 30.0
"""Longest segment, unless one word is longer."""
LONG_PAUSE_S = 2.0
"""Silence that ends any segment. Readers pause for up to 1.2 s within a sentence."""
PAUSE_S = 0.8
"""Silence that ends a segment in text without punctuation; pauses within a clause are shorter."""
MAX_UNPUNCTUATED_S = 15.0
"""Longest segment in text without punctuation, unless one word is longer: most sentences that are
spoken are shorter."""

_CLAUSE_END = 1.0  # how much a clause's end speaks for a cut there
_PAUSE_PER_S = 1.0  # how much each second of a pause does, up to LONG_PAUSE_S
_ANYWHERE = 0.05  # how much any two words do


class PlacedWord(NamedTuple):
    """A word with times on the original timeline, its language and its channel."""

    word: Word
    language: str | None
    channel: int | None
    tokens: tuple[int, ...] = ()
    window: SegmentDecoding | None = None
    """What was measured of the window in which it was heard, without tokens."""


_Run = list[PlacedWord]
"""Words in order of time, at least one."""


Label = Callable[[Sequence[Word], int | None], list[Word]]
"""Returns the same words, of a channel, with their speakers."""


def make_segments(words: Iterable[PlacedWord], label: Label | None = None) -> Iterator[Segment]:
    """Yield the segments of one channel; every word is in exactly one, and their ids are 0.

    The words come in order of time. A segment's words have one language and one speaker. ``label``
    tells the speakers of a sentence, which is cut where they change.
    """
    for run in _runs(words) if label is None else _runs_of_speakers(words, label):
        spoken = [placed.word for placed in run]
        confidences = [word.confidence for word in spoken if word.confidence is not None]
        known = len(confidences) == len(spoken)
        yield Segment(
            id=0,
            start=spoken[0].start,
            end=spoken[-1].end,
            text=join_words(spoken),
            separator=spoken[0].separator,
            confidence=sum(confidences) / len(spoken) if known else None,
            language=run[0].language,
            channel=run[0].channel,
            speaker=spoken[0].speaker,
            words=spoken,
            decoding=_decoding(run),
        )


def _runs_of_speakers(words: Iterable[PlacedWord], label: Label) -> Iterator["_Run"]:
    for run in _runs(words):
        labelled = label([placed.word for placed in run], run[0].channel)
        spoken = [placed._replace(word=word) for placed, word in zip(run, labelled, strict=True)]
        for _, part in groupby(spoken, key=lambda placed: placed.word.speaker):
            yield list(part)


def _decoding(run: "_Run") -> SegmentDecoding | None:
    window = run[0].window
    if window is None:
        return None
    tokens = [token for placed in run for token in placed.tokens]
    return window.model_copy(update={"tokens": tokens})


def _runs(words: Iterable[PlacedWord]) -> Iterator[_Run]:
    """Yield the words of each segment."""
    sentence: _Run = []
    text = ""  # the last word, with the marks after it
    for placed, following in pairwise(chain(words, [None])):
        assert placed is not None, "only the last one of the chain is None"
        if sentence and placed.word.end - sentence[0].word.start > 2 * MAX_SEGMENT_S:
            *settled, sentence = _parts(sentence)
            yield from settled
        sentence.append(placed)
        text = with_marks(text, placed.word.text)
        if _ends_segment(placed, text, following):
            yield from _parts(sentence)
            sentence, text = [], ""


def _ends_segment(placed: PlacedWord, text: str, following: PlacedWord | None) -> bool:
    return (
        following is None
        or following.language != placed.language
        or following.word.start - placed.word.end >= LONG_PAUSE_S
        or ends_sentence(text, following.word.text, placed.language)
    )


def _parts(sentence: _Run) -> list[_Run]:
    """Return a sentence in parts that are short enough for segments."""
    if any(is_punctuated(placed.word.text) for placed in sentence):
        return _halved(sentence, MAX_SEGMENT_S)
    utterances: list[_Run] = [sentence[:1]]
    for placed, following in pairwise(sentence):
        if following.word.start - placed.word.end >= PAUSE_S:
            utterances.append([])
        utterances[-1].append(following)
    return [part for utterance in utterances for part in _halved(utterance, MAX_UNPUNCTUATED_S)]


def _halved(run: _Run, longest_s: float) -> list[_Run]:
    """Cut a run in two at its best place, and those again, until none is too long."""
    if len(run) == 1 or run[-1].word.end - run[0].word.start <= longest_s:
        return [run]
    at = _best_cut(run)
    return _halved(run[:at], longest_s) + _halved(run[at:], longest_s)


def _best_cut(run: Sequence[PlacedWord]) -> int:
    """Return the index of the word before which a run is cut best.

    Clauses' ends and pauses speak for a cut, in the middle more than near an end.
    """
    start, length = run[0].word.start, run[-1].word.end - run[0].word.start

    def worth(at: int) -> tuple[float, int]:
        left, right = run[at - 1].word, run[at].word
        pause_s = min(LONG_PAUSE_S, right.start - left.end)
        # In unspaced scripts, a space that the model wrote separates clauses.
        is_clause_end = ends_clause(left.text) or (
            bool(right.separator) and space_between(left.text, right.text) is False
        )
        share = ((left.end + right.start) / 2 - start) / length
        for_it = _ANYWHERE + _CLAUSE_END * is_clause_end + _PAUSE_PER_S * pause_s
        return for_it * share * (1 - share), -abs(2 * at - len(run))

    return max(range(1, len(run)), key=worth)
