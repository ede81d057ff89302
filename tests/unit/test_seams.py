"""Words that neighbouring chunks hear at slightly different times are neither lost nor doubled."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chunks import SAMPLE_RATE, Chunk, Heard, Hypothesis, WordHypothesis
from shared.seams import SAME_WORD_S, keep_once

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
        pytest.param([("two", 9.7)], [("two", 10.3)], [["two"], ["two"]], id="too far apart"),
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


def test_chunks_with_a_pause_between_them_are_not_compared() -> None:
    left, right = Chunk(0, 0, 10 * S, 0, 0), Chunk(1, 10 * S + 1, 20 * S, 0, 0)
    assert kept(heard(left, [("two", 9.9)]), heard(right, [("two", 10.1)])) == [["two"], ["two"]]


@given(
    st.lists(st.floats(0.1, 0.6), min_size=20, max_size=60),
    st.lists(st.floats(2.0, 6.0), max_size=4),
    st.data(),
)
def test_nothing_is_lost_or_doubled_however_each_chunk_times_its_words(
    gaps_s: list[float], cores_s: list[float], data: st.DataObject
) -> None:
    ends_s = [sum(gaps_s[: n + 1]) for n in range(len(gaps_s))]
    cuts_s = [0.0, *(sum(cores_s[: n + 1]) for n in range(len(cores_s))), ends_s[-1] + 30]
    error = st.floats(-0.49 * SAME_WORD_S, 0.49 * SAME_WORD_S)
    chunks = []
    for index, (start_s, end_s) in enumerate(pairwise(cuts_s)):
        first = index == 0
        chunk = Chunk(index, round(start_s * S), round(end_s * S), 0 if first else S, S)
        said = [
            (f"w{n}", max(start_s - (not first), at + data.draw(error)))
            for n, at in enumerate(ends_s)
            if (first or at >= start_s - 0.5) and at < end_s + 0.5
        ]
        chunks.append(heard(chunk, said, length_s=0))

    words = [word for words in kept(*chunks) for word in words]

    assert sorted(words, key=lambda word: int(word[1:])) == [f"w{n}" for n in range(len(ends_s))]
