from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.audio import SAMPLE_RATE, Chunk, Hypothesis, WordHypothesis
from worker.stitching import MAX_SEGMENT_CHARS, MAX_SEGMENT_S, stitch

S = SAMPLE_RATE


def hypothesis(*words: tuple[str, float, float], language: str | None = None) -> Hypothesis:
    """Words as (text, start, end) in seconds into the chunk."""
    return Hypothesis(
        tuple(WordHypothesis(text, round(a * S), round(b * S)) for text, a, b in words), language
    )


def whole(seconds: float) -> Chunk:
    return Chunk(0, 0, round(seconds * S), 0, 0)


def test_word_heard_by_two_neighbours_is_kept_once_at_its_true_time() -> None:
    left = Chunk(0, 0, 10 * S, 0, S)
    right = Chunk(1, 10 * S, 20 * S, S, 0)

    transcript = stitch(
        [
            (left, hypothesis(("one", 1, 2), ("two", 9.6, 10.2), ("three", 10.5, 11))),
            (right, hypothesis(("two", 0.6, 1.2), ("three", 1.5, 2), ("four", 9, 10))),
        ],
        n_samples=20 * S,
        language="en",
    )

    words = [(w.text, w.start, w.end) for s in transcript.segments for w in s.words]
    assert words == [
        ("one", 1, 2),
        ("two", 9.6, 10.2),
        ("three", 10.5, 11),
        ("four", 18, 19),
    ]
    assert transcript.text == "one two three four"


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=60), st.data())
def test_no_word_is_lost_or_doubled_wherever_the_cuts_fall(
    lengths: list[int], data: st.DataObject
) -> None:
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    n = sum(lengths)
    spoken = [
        (f"w{i}", a, a + size) for i, (a, size) in enumerate(zip(starts, lengths, strict=True))
    ]
    cuts = sorted({0, n, *data.draw(st.lists(st.integers(0, n), max_size=6))})
    pairs = []
    for index, (start, end) in enumerate(pairwise(cuts)):
        # Overlap enough that every word whose midpoint lies in the core is heard as a whole.
        chunk = Chunk(index, start, end, min(2000, start), min(2000, n - end))
        heard = tuple(
            WordHypothesis(text, a - chunk.start, b - chunk.start)
            for text, a, b in spoken
            if a >= chunk.start and b <= chunk.end
        )
        pairs.append((chunk, Hypothesis(heard)))

    transcript = stitch(pairs, n_samples=n, language=None)

    words = [w for s in transcript.segments for w in s.words]
    assert [w.text for w in words] == [text for text, _, _ in spoken]
    assert [w.start for w in words] == [round(a / S, 3) for _, a, _ in spoken]
    assert transcript.skipped_s == 0


def test_word_at_the_very_end_of_the_audio_is_kept() -> None:
    transcript = stitch([(whole(1), hypothesis(("end", 1, 1)))], n_samples=S, language="en")

    assert transcript.text == "end"


def test_times_never_step_back_nor_pass_the_end() -> None:
    heard = hypothesis(("a", 0.2, 0.9), ("b", 0.8, 0.85), ("c", 0.9, 1.4))

    transcript = stitch([(whole(1.3), heard)], n_samples=round(1.3 * S), language="en")

    words = [w for s in transcript.segments for w in s.words]
    assert [(w.start, w.end) for w in words] == [(0.2, 0.9), (0.9, 0.9), (0.9, 1.3)]


def test_segments_end_at_sentence_ends_and_pauses() -> None:
    heard = hypothesis(
        ('"Yes."', 0, 0.5), ("It", 0.6, 0.8), ("costs", 0.8, 1), ("3.5", 1, 1.5), ("now", 3, 3.4)
    )

    transcript = stitch([(whole(4), heard)], n_samples=4 * S, language="en")

    assert [s.text for s in transcript.segments] == ['"Yes."', "It costs 3.5", "now"]
    assert [s.id for s in transcript.segments] == [0, 1, 2]
    assert (transcript.segments[1].start, transcript.segments[1].end) == (0.6, 1.5)


def test_unpunctuated_speech_is_cut_to_subtitle_length() -> None:
    heard = hypothesis(*((f"word{i:03d}", i * 0.3, i * 0.3 + 0.3) for i in range(200)))

    transcript = stitch([(whole(60), heard)], n_samples=60 * S, language="en")

    assert all(len(s.text) <= MAX_SEGMENT_CHARS for s in transcript.segments)
    assert all(s.end - s.start <= MAX_SEGMENT_S for s in transcript.segments)
    assert len(transcript.segments) < 30


@pytest.mark.parametrize(("given_language", "expected"), [(None, "de"), ("fr", "fr")])
def test_language_is_the_given_one_or_that_of_most_audio(
    given_language: str | None, expected: str
) -> None:
    pairs = [
        (Chunk(0, 0, S, 0, 0), hypothesis(language="en")),
        (Chunk(1, S, 2 * S, 0, 0), hypothesis(language="en")),
        (Chunk(2, 2 * S, 5 * S, 0, 0), hypothesis(language="de")),
        (Chunk(3, 5 * S, 9 * S, 0, 0), hypothesis()),
    ]

    assert stitch(pairs, n_samples=9 * S, language=given_language).language == expected


def test_audio_outside_the_chunks_is_reported_as_skipped() -> None:
    pairs = [
        (Chunk(0, S, 3 * S, S // 2, 0), hypothesis()),
        (Chunk(1, 6 * S, 7 * S, 0, 0), hypothesis()),
    ]

    transcript = stitch(pairs, n_samples=10 * S, language="en")

    assert (transcript.duration_s, transcript.speech_s, transcript.skipped_s) == (10, 3, 7)


def test_silent_audio_gives_an_empty_transcript() -> None:
    transcript = stitch([], n_samples=S, language=None)

    assert (transcript.text, transcript.segments, transcript.skipped_s) == ("", [], 1)
