"""Words that neighbouring chunks hear at different times are neither lost nor doubled."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.chunk import Chunk
from shared.speech.chunks.hypothesis import Heard, Hypothesis, WordHypothesis
from shared.speech.chunks.seams import keep_once

S = SAMPLE_RATE
LEFT, RIGHT = Chunk(0, 0, 10 * S, 0, S), Chunk(1, 10 * S, 20 * S, S, 0)

Said = Sequence[tuple[str, float]]
"""Words and their midpoints, in seconds into the file."""


def heard(chunk: Chunk, said: Said, length_s: float = 0.1) -> Heard:
    half = length_s / 2
    words = [
        WordHypothesis(
            text, round((at - half) * S) - chunk.start, round((at + half) * S) - chunk.start
        )
        for text, at in said
    ]
    return chunk, Hypothesis(tuple(words))


def kept(*chunks: Heard) -> list[list[str]]:
    return [[word.text for word in words] for _, _, words in keep_once(chunks)]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        pytest.param([("two", 10.05)], [("two", 9.9)], [["two"], []], id="both would drop it"),
        pytest.param([("two", 9.9)], [("two", 10.2)], [[], ["two"]], id="both would keep it"),
        pytest.param([("Two,", 9.95)], [("two", 10.01)], [["Two,"], []], id="written otherwise"),
        pytest.param([("कि", 9.9)], [("की", 10.1)], [["कि"], ["की"]], id="another vowel"),
        pytest.param([("two", 9.7)], [("two", 9.9)], [["two"], []], id="the same side"),
        pytest.param([("two", 9.2)], [("two", 10.1)], [["two"], []], id="timed very otherwise"),
        pytest.param([("two", 9.5)], [("two", 10.5)], [["two"], ["two"]], id="a stride apart"),
        pytest.param([("two", 9.9)], [("three", 10.1)], [["two"], ["three"]], id="other words"),
        pytest.param([("two", 9.9)], [], [["two"], []], id="heard by the left one only"),
        pytest.param([], [("two", 10.1)], [[], ["two"]], id="heard by the right one only"),
        pytest.param([(" ", 9.9)], [(" ", 10.1)], [[], []], id="nothing"),
    ],
)
def test_a_word_at_a_cut_is_kept_by_one(left: Said, right: Said, expected: list[list[str]]) -> None:
    assert kept(heard(LEFT, left), heard(RIGHT, right)) == expected


def test_a_word_said_twice_stays_twice() -> None:
    left = heard(LEFT, [("no", 9.8), ("no", 10.1)])
    assert kept(left, heard(RIGHT, [("no", 9.85), ("no", 10.15)])) == [["no"], ["no"]]
    assert kept(left, heard(RIGHT, [("no", 10.15)])) == [["no"], ["no"]]


def test_words_are_compared_in_their_order() -> None:
    left = heard(LEFT, [("go", 9.1), ("no", 9.8), ("no", 10.3), ("yes", 10.7)])
    right = heard(RIGHT, [("no", 9.3), ("no", 9.7), ("yes", 10.2), ("go", 10.8)])
    assert kept(left, right) == [["go", "no"], ["no", "yes", "go"]]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        pytest.param(
            [("a", 9.5), ("x", 10.05), ("b", 10.1)],
            [("a", 9.4), ("b", 9.7)],
            [["a", "x", "b"], []],
            id="the left one, before the cut",
        ),
        pytest.param(
            [("a", 9.6), ("x", 9.9), ("b", 9.95)],
            [("a", 10.5), ("b", 10.6)],
            [[], ["a", "b"]],
            id="the left one, after the cut",
        ),
        pytest.param(
            [("a", 10.0), ("b", 10.1)],
            [("a", 9.4), ("x", 9.6), ("b", 9.7)],
            [["a", "b"], []],
            id="the right one, before the cut",
        ),
        pytest.param(
            [("a", 9.9), ("b", 10.7)],
            [("a", 10.3), ("x", 9.9), ("b", 10.7)],
            [[], ["a", "x", "b"]],
            id="the right one, after the cut",
        ),
    ],
)
def test_what_one_heard_goes_with_the_words_around_it(
    left: Said, right: Said, expected: list[list[str]]
) -> None:
    assert kept(heard(LEFT, left), heard(RIGHT, right)) == expected


def test_a_chunk_shorter_than_its_strides_keeps_what_lies_between_its_cuts() -> None:
    middle = Chunk(1, 10 * S, round(10.5 * S), S, S)
    last = Chunk(2, round(10.5 * S), 20 * S, S, 0)
    said = [("a", 9.8), ("b", 10.2), ("c", 10.7), ("d", 10.9)]
    assert kept(heard(LEFT, said), heard(middle, said), heard(last, said)) == [
        ["a"],
        ["b"],
        ["c", "d"],
    ]


def test_chunks_with_a_pause_between_them_are_not_compared() -> None:
    left, right = Chunk(0, 0, 10 * S, 0, 0), Chunk(1, 10 * S + 1, 20 * S, 0, 0)
    assert kept(heard(left, [("two", 9.9)]), heard(right, [("two", 10.1)])) == [["two"], ["two"]]


@given(
    st.lists(st.tuples(st.floats(0.1, 0.6), st.sampled_from("ab")), min_size=20, max_size=60),
    st.lists(st.floats(2.0, 6.0), max_size=4),
    st.data(),
)
def test_nothing_is_lost_or_doubled_however_each_chunk_times_its_words(
    spoken: list[tuple[float, str]], cores_s: list[float], data: st.DataObject
) -> None:
    times_s = list(accumulate(gap_s for gap_s, _ in spoken))
    cuts_s = [0.0, *accumulate(cores_s), times_s[-1] + 30]
    # Each name comes again after a few seconds, and is timed up to 0.6 s apart.
    names = [f"{name}{n % 8}" for n, (_, name) in enumerate(spoken)]
    chunks = []
    for index, (start_s, end_s) in enumerate(pairwise(cuts_s)):
        first = index == 0
        chunk = Chunk(index, round(start_s * S), round(end_s * S), 0 if first else S, S)
        said, previous_s, beyond_s = [], 0.0, data.draw(st.floats(0.5, 0.7))
        for name, at in zip(names, times_s, strict=True):
            if (first or at >= start_s - beyond_s) and at < end_s + beyond_s:
                previous_s = max(previous_s, at + data.draw(st.floats(-0.3, 0.3)))
                said.append((name, previous_s))
        chunks.append(heard(chunk, said, length_s=0))

    assert [word for words in kept(*chunks) for word in words] == names
