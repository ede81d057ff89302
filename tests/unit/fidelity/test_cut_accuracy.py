"""The measurement of what cuts cost: errors are charged to the words they belong to."""

import numpy as np

from bench.cuts import accuracy, errors_per_word, word_times_s
from bench.pipeline import Outcome
from bench.speech import Recital
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.spans import Span
from shared.speech.chunks.chunk import Chunk
from shared.speech.transcript.transcript import Word

RECITAL = Recital(
    samples=np.zeros(20 * SAMPLE_RATE, np.float32),
    spans=[Span(0, 10 * SAMPLE_RATE), Span(10 * SAMPLE_RATE, 20 * SAMPLE_RATE)],
    texts=["a bb cc d", "e ff gg h"],
)
"""Letters share ten seconds: words begin and end at 0, 1.67, 5, 8.33 and 10 s."""


def heard(text: str) -> Outcome:
    chunks = [
        Chunk(0, 0, 8 * SAMPLE_RATE, 0, SAMPLE_RATE),
        Chunk(1, 8 * SAMPLE_RATE, 20 * SAMPLE_RATE, SAMPLE_RATE, 0),
    ]
    words = [Word(text=word, start=0, end=0) for word in text.split()]
    return Outcome(words, chunks, duration_s=20, skipped_s=0)


def test_words_have_times_by_their_letters() -> None:
    assert np.allclose(word_times_s(RECITAL)[:4], [5 / 6, 10 / 3, 20 / 3, 55 / 6])


def test_errors_are_charged_to_the_words_spoken() -> None:
    spoken = ["a", "bb", "cc", "d"]

    assert errors_per_word(spoken, ["a", "bb", "cc", "d"]).tolist() == [0, 0, 0, 0]
    assert errors_per_word(spoken, ["a", "xx", "cc"]).tolist() == [0, 1, 0, 1]
    assert errors_per_word(spoken, ["a", "bb", "so", "so", "cc", "d", "so"]).tolist() == [
        0,
        0,
        2,
        1,
    ]
    assert errors_per_word(spoken, []).tolist() == [1, 1, 1, 1]


def test_errors_near_a_cut_are_told_from_others() -> None:
    """Only "d", at 9.2 s, is spoken within 1.3 s of the cut at 8 s."""
    near = accuracy(RECITAL, heard("a bb cc x e ff gg h"), near_s=1.3)
    far = accuracy(RECITAL, heard("a bb cc d e ff gg x"), near_s=1.3)

    assert (near.n_near, near.n_interior) == (1, 7)
    assert (near.wer_near, near.wer_interior) == (1, 0)
    assert (far.wer_near, far.wer_interior) == (0, 1 / 7)
