"""Which speaker said which word, from the turns of a diarization.

Words are assigned one by one: a sentence may have words of two speakers. A word goes to the speaker
whose turns cover most of it. Its measured end may be far too late, so only its first
``MAX_WORD_S`` count.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby

from shared.speech.speakers.names import channel_name, speaker_name
from shared.speech.speakers.turns import Turn
from shared.speech.text.sentences import CLOSING_MARKS, SENTENCE_ENDS
from shared.speech.transcript.transcript import Speaker, Word

MAX_WORD_S = 1.0
"""What counts of a word. Few take longer; a measured end may reach over the pause after it."""
MIN_WORD_S = 0.02
"""The least that counts, as engines give some words no length."""
NEAR_S = 1.0
"""How far from every turn a word may be and still be the nearest speaker's."""
OVERLAP_SHARE = 0.5
"""A word overlaps another speaker who talks during this share of it."""
PAUSE_S = 0.25
"""Silence before or after words that supports a change of speaker."""
ISLAND_WORDS = 2
"""The longest run of words that may be an error of the turns' borders."""
NEAR_BORDER_S = 0.5
"""How far a turn's border may be from where the words around it were measured."""
LOW_CONFIDENCE = 0.5
"""Turns with a lower confidence do not outweigh the words around them."""

_PIECE_S = 30.0
"""Longer turns are cut into such pieces, so that few turns can reach into a word."""


class SpeakerTurns:
    """The turns of a recording, to be asked for those at some time."""

    def __init__(self, turns: Iterable[Turn]) -> None:
        self._turns = sorted(_in_pieces(turns), key=lambda turn: turn.start_s)
        self._starts = [turn.start_s for turn in self._turns]

    def within(self, start_s: float, end_s: float) -> list[Turn]:
        """Return the turns, or pieces of them, that reach into [start_s, end_s]."""
        first = bisect_left(self._starts, start_s - _PIECE_S)
        last = bisect_left(self._starts, end_s)
        return [turn for turn in self._turns[first:last] if turn.end_s > start_s]


def _in_pieces(turns: Iterable[Turn]) -> Iterable[Turn]:
    for turn in turns:
        start_s = turn.start_s
        while turn.end_s - start_s > _PIECE_S:
            yield Turn(start_s, start_s + _PIECE_S, turn.speaker, turn.overlap, turn.confidence)
            start_s += _PIECE_S
        yield Turn(start_s, turn.end_s, turn.speaker, turn.overlap, turn.confidence)


def assign_speakers(words: Sequence[Word], turns: SpeakerTurns) -> list[Word]:
    """Return the words of one segment, in order, with their speakers.

    A word between turns takes the speaker of the words on its side of the longest pause. It has no
    speaker where nobody talks within ``NEAR_S`` of all of them.
    """
    found: list[int | None] = []
    overlaps: list[bool] = []
    confidences: list[float] = []
    for word in words:
        covered = _covered_s(word, turns)
        previous = found[-1] if found else None
        speaker = _most_heard(covered, previous)
        found.append(speaker)
        n_others = sum(
            seconds >= OVERLAP_SHARE * (_counted_end(word) - word.start)
            for other, (seconds, _) in covered.items()
            if other != speaker
        )
        overlaps.append(n_others > 0)
        confidences.append(1.0 if speaker is None else covered[speaker][1])
    speakers = _without_gaps(words, found, turns)
    speakers = _without_islands(words, speakers, confidences)
    speakers = _without_edges(words, speakers, turns)
    return [
        word.model_copy(update={"speaker": speaker, "overlap": overlap})
        for word, speaker, overlap in zip(words, speakers, overlaps, strict=True)
    ]


def _counted_end(word: Word) -> float:
    return max(word.start + MIN_WORD_S, min(word.end, word.start + MAX_WORD_S))


def _covered_s(word: Word, turns: SpeakerTurns) -> dict[int, tuple[float, float]]:
    """Return how much of a word each speaker's turns cover, and their highest confidence."""
    end_s = _counted_end(word)
    covered: dict[int, tuple[float, float]] = {}
    for turn in turns.within(word.start, end_s):
        seconds, confidence = covered.get(turn.speaker, (0.0, 0.0))
        seconds += min(turn.end_s, end_s) - max(turn.start_s, word.start)
        covered[turn.speaker] = seconds, max(confidence, turn.confidence)
    return covered


def _most_heard(covered: dict[int, tuple[float, float]], previous: int | None) -> int | None:
    """Return who covers most; among equals who spoke before, then whose turn is surer."""
    if not covered:
        return None
    return max(
        covered,
        key=lambda each: (
            round(covered[each][0], 3),
            each == previous,
            covered[each][1],
            -each,
        ),
    )


def _without_gaps(
    words: Sequence[Word], found: Sequence[int | None], turns: SpeakerTurns
) -> list[int | None]:
    """Return the speakers, those of words between turns included."""
    speakers = list(found)
    at = 0
    for unknown, run in groupby(found, key=lambda speaker: speaker is None):
        stop = at + len(list(run))
        if unknown:
            left = found[at - 1] if at else None
            right = found[stop] if stop < len(found) else None
            if left is None and right is None:
                left = right = _nearest(words[at].start, words[stop - 1].end, turns)
            cut = _longest_pause(words, at, stop)
            if left is None or right is None:
                left = right = right if left is None else left
            speakers[at:stop] = [left] * (cut - at) + [right] * (stop - cut)
        at = stop
    return speakers


def _longest_pause(words: Sequence[Word], at: int, stop: int) -> int:
    """Return before which of the words [at, stop], of which the last may be missing, it is."""
    candidates = range(max(at, 1), min(stop, len(words) - 1) + 1)
    return max(candidates, key=lambda n: words[n].start - words[n - 1].end, default=at)


def _nearest(start_s: float, end_s: float, turns: SpeakerTurns) -> int | None:
    near = turns.within(start_s - NEAR_S, end_s + NEAR_S)
    closest = min(
        near,
        key=lambda turn: (max(turn.start_s - end_s, start_s - turn.end_s), turn.start_s),
        default=None,
    )
    return None if closest is None else closest.speaker


def _without_islands(
    words: Sequence[Word], speakers: Sequence[int | None], confidences: Sequence[float]
) -> list[int | None]:
    """Give one or two words in the middle of somebody else's to that speaker.

    They stay where a turn is sure of them, and where a pause or a sentence's end before or after
    them speaks for a change.
    """
    runs = _runs(speakers)
    repaired = list(speakers)
    for (before, _), (at, stop), (after, _) in zip(runs, runs[1:], runs[2:], strict=False):
        is_island = stop - at <= ISLAND_WORDS and repaired[before] == speakers[after]
        if (
            is_island
            and max(confidences[at:stop]) < LOW_CONFIDENCE
            and not any(_supports_change(*pair) for pair in _borders(words, at, stop))
        ):
            repaired[at:stop] = [speakers[after]] * (stop - at)
    return repaired


def _without_edges(
    words: Sequence[Word], speakers: Sequence[int | None], turns: SpeakerTurns
) -> list[int | None]:
    """Give one or two words at a sentence's edge to who says the rest, near the end of their turn.

    Measured times of words drift where nobody pauses. A change within a sentence, so close to its
    end or beginning and without a pause, is most often the change between two sentences.
    """
    repaired = list(speakers)
    runs = _runs(speakers)
    if len(runs) < 2 or not _ends_sentence(words[-1]):
        return repaired
    (before, _), (at, stop) = runs[-2:]
    if (
        stop - at <= ISLAND_WORDS
        and stop - at < at - before
        and not _has_pause(words[at - 1], words[at])
        and _talks(turns, speakers[before], words[at].start - NEAR_BORDER_S, words[-1].start)
    ):
        repaired[at:stop] = [speakers[before]] * (stop - at)
    (at, stop), (after, end) = runs[:2]
    if (
        stop - at <= ISLAND_WORDS
        and stop - at < end - after
        and not _has_pause(words[stop - 1], words[stop])
        and _talks(turns, speakers[after], words[0].end, words[stop - 1].end + NEAR_BORDER_S)
    ):
        repaired[at:stop] = [speakers[after]] * (stop - at)
    return repaired


def _talks(turns: SpeakerTurns, speaker: int | None, start_s: float, end_s: float) -> bool:
    return any(turn.speaker == speaker for turn in turns.within(start_s, end_s))


def _runs(speakers: Sequence[int | None]) -> list[tuple[int, int]]:
    """Return start and stop of each run of words of one speaker."""
    runs: list[tuple[int, int]] = []
    for _, run in groupby(range(len(speakers)), key=lambda n: speakers[n]):
        numbers = list(run)
        runs.append((numbers[0], numbers[-1] + 1))
    return runs


def _borders(words: Sequence[Word], at: int, stop: int) -> list[tuple[Word, Word]]:
    return [(words[at - 1], words[at]), (words[stop - 1], words[stop])]


def _supports_change(left: Word, right: Word) -> bool:
    return _ends_sentence(left) or _has_pause(left, right)


def _ends_sentence(word: Word) -> bool:
    return word.text.rstrip(CLOSING_MARKS)[-1:] in SENTENCE_ENDS


def _has_pause(left: Word, right: Word) -> bool:
    return right.start - left.end >= PAUSE_S


class _Labels:
    """Adds up what each speaker says."""

    def __init__(self) -> None:
        self._speech_s: defaultdict[int, float] = defaultdict(float)

    def _counted(self, words: list[Word]) -> list[Word]:
        for word in words:
            if word.speaker is not None:
                self._speech_s[word.speaker] += word.end - word.start
        return words


class SpeakerLabels(_Labels):
    """Gives words the speakers of a diarization, sentence by sentence."""

    def __init__(self, turns: Iterable[Turn]) -> None:
        super().__init__()
        self._turns = SpeakerTurns(turns)

    def label(self, words: Sequence[Word], channel: int | None) -> list[Word]:
        """Return the words of one sentence with their speakers."""
        assert channel is None, "channels that are transcribed apart are the speakers"
        return self._counted(assign_speakers(words, self._turns))

    def found(self) -> list[Speaker]:
        """Return the speakers of the words so far."""
        return [
            Speaker(id=speaker, name=speaker_name(speaker), speech_s=round(seconds, 3))
            for speaker, seconds in sorted(self._speech_s.items())
        ]


class ChannelLabels(_Labels):
    """Gives words their channels as speakers."""

    def label(self, words: Sequence[Word], channel: int | None) -> list[Word]:
        """Return the words of one sentence with their speaker."""
        return self._counted([word.model_copy(update={"speaker": channel}) for word in words])

    def found(self) -> list[Speaker]:
        """Return the channels of the words so far."""
        return [
            Speaker(id=channel, name=channel_name(channel), speech_s=round(seconds, 3))
            for channel, seconds in sorted(self._speech_s.items())
        ]
