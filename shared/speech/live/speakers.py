"""The speakers of a final's words, by the voices of its audio."""

import itertools
from collections.abc import Iterator, Sequence

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.hypothesis import WordHypothesis
from shared.speech.speakers.assign import SpeakerTurns, assign_speakers
from shared.speech.speakers.turns import Turn
from shared.speech.speakers.voices import Voice
from shared.speech.text.sentences import CLOSING_MARKS, SENTENCE_ENDS
from shared.speech.transcript.transcript import Word


def speakers_of(
    words: Sequence[WordHypothesis],
    offset: int,
    voices: Sequence[Voice],
    labels: Sequence[int | None],
) -> tuple[int | None, ...]:
    """Return who says each word; None: nobody can say.

    Args:
        words: those of a final.
        offset: the sample at which the audio begins in which the voices were heard.
        voices: who talks in it.
        labels: the speaker of each of them.
    """
    # A voice without a speaker is somebody still: its words are nobody else's.
    numbers = [-1 - n if label is None else label for n, label in enumerate(labels)]
    offset_s = offset / SAMPLE_RATE
    turns = SpeakerTurns(
        Turn(offset_s + start_s, offset_s + end_s, number)
        for voice, number in zip(voices, numbers, strict=True)
        for start_s, end_s in voice.turns
    )
    found: list[int | None] = []
    for sentence in _sentences(words):
        said = [
            Word(text=w.text.strip(), start=w.start / SAMPLE_RATE, end=w.end / SAMPLE_RATE)
            for w in sentence
        ]
        found += [word.speaker for word in assign_speakers(said, turns)]
    return tuple(None if number is None or number < 0 else number for number in found)


def _sentences(words: Sequence[WordHypothesis]) -> Iterator[list[WordHypothesis]]:
    ends = (word.text.strip().rstrip(CLOSING_MARKS)[-1:] in SENTENCE_ENDS for word in words)
    number, numbers = 0, []
    for is_end in ends:
        numbers.append(number)
        number += is_end
    for _, sentence in itertools.groupby(zip(numbers, words, strict=True), lambda each: each[0]):
        yield [word for _, word in sentence]
