"""Corrected segments: what stays keeps its time, what is new shares that of what it replaces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.jobs.word_streams import transcript_of
from shared.speech.transcript.corrections import correct
from shared.speech.transcript.transcript import Segment, Word, join_words


def heard(*texts: str) -> Segment:
    words = [
        Word(text=text, start=float(n), end=n + 0.5, confidence=0.9) for n, text in enumerate(texts)
    ]
    (segment,) = transcript_of(words).segments
    return segment


def said(segment: Segment | None) -> list[tuple[str, float, float]]:
    assert segment is not None
    return [(word.text, word.start, word.end) for word in segment.words]


def test_words_that_stay_keep_their_times_and_others_share_that_of_what_they_replace() -> None:
    corrected = correct(heard("the", "cat", "sat", "down"), "the big dog sat down")
    assert said(corrected) == [
        ("the", 0.0, 0.5),
        ("big", 1.0, 1.25),
        ("dog", 1.25, 1.5),
        ("sat", 2.0, 2.5),
        ("down", 3.0, 3.5),
    ]
    assert corrected is not None
    assert [word.confidence for word in corrected.words] == [0.9, None, None, 0.9, 0.9]
    assert corrected.confidence is None


def test_words_that_are_added_lie_between_their_neighbours() -> None:
    assert said(correct(heard("a", "b"), "a so b"))[1] == ("so", 0.5, 1.0)
    assert said(correct(heard("a", "b"), "a b so"))[2] == ("so", 1.5, 1.5)


def test_words_that_are_removed_leave_the_others_as_they_were() -> None:
    assert said(correct(heard("a", "b", "c"), "a c")) == [("a", 0.0, 0.5), ("c", 2.0, 2.5)]


def test_nothing_is_left_of_a_segment_without_text() -> None:
    assert correct(heard("a"), "") is None


def test_a_segment_whose_text_is_the_same_is_the_same() -> None:
    segment = heard("a", "b")
    assert correct(segment, "a b") is segment


def test_scripts_without_spaces_are_compared_by_their_characters() -> None:
    words = [Word(text="今日は", start=0, end=3), Word(text="晴れ。", start=3, end=6)]
    (segment,) = transcript_of(words, language="ja").segments
    assert said(correct(segment, "今日も晴れ。")) == [
        ("今", 0.0, 1.0),
        ("日", 1.0, 2.0),
        ("も", 2.0, 3.0),
        ("晴", 3.0, 4.0),
        ("れ。", 4.0, 6.0),
    ]


@given(
    st.lists(st.text("abcé今日は,.", min_size=1, max_size=6), min_size=1, max_size=8),
    st.lists(st.text("abcé今日は,.", min_size=1, max_size=6), min_size=1, max_size=8),
)
def test_any_correction_says_its_text_in_time_order_and_within_its_segment(
    before: list[str], after: list[str]
) -> None:
    segment = heard(*before)
    written = " ".join(after)
    corrected = correct(segment, written)
    assert corrected is not None
    assert corrected.text == join_words(corrected.words) == written
    times = [time for word in corrected.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert segment.start <= times[0]
    assert times[-1] <= segment.end
    assert (corrected.id, corrected.start, corrected.end) == (0, segment.start, segment.end)


@pytest.mark.parametrize("written", ["one", "one two three"])
def test_a_segment_without_words_keeps_none(written: str) -> None:
    segment = Segment(id=0, start=0, end=1, text="heard", words=[])
    corrected = correct(segment, written)
    assert corrected is not None
    assert (corrected.text, corrected.words) == (written, [])
