"""Speakers told while they talk: the same voice is the same speaker, and nothing told changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speech.speakers.online import OTHER, SAME, OnlineSpeakers
from shared.speech.speakers.voices import Voice

ANNA, BEN, CARL = np.eye(8, dtype=np.float32)[:3]


def voice(mean: np.ndarray, alone_s: float = 3.0, noise: float = 0.0, seed: int = 0) -> Voice:
    """Return a voice whose similarity to ``mean`` is about 1 / sqrt(1 + noise ** 2)."""
    drawn = np.random.default_rng(seed).normal(size=len(mean))
    drawn -= mean * (drawn @ mean)
    vector = mean + noise * drawn / np.linalg.norm(drawn)
    return Voice(tuple((vector / np.linalg.norm(vector)).tolist()), alone_s, ((0.0, alone_s),))


def alike(share: float) -> Voice:
    """Return a voice whose similarity to Anna's is this share, and to all others' 0."""
    vector = share * ANNA + np.sqrt(1 - share**2) * CARL
    return Voice(tuple(vector.tolist()), 3.0, ((0.0, 3.0),))


def test_a_speaker_who_returns_has_the_same_label() -> None:
    speakers = OnlineSpeakers()

    told = [
        speakers.labels([voice(who, noise=0.5, seed=seed)])[0]
        for seed, who in enumerate([ANNA, BEN, ANNA, CARL, BEN, ANNA, CARL])
    ]

    assert told == [0, 1, 0, 2, 1, 0, 2]


def test_one_final_may_have_several_voices() -> None:
    assert OnlineSpeakers().labels([voice(BEN), voice(ANNA, 6.0), voice(BEN, 2.0)]) == [1, 0, 1]


def test_short_voices_are_nobodys_and_begin_no_speaker() -> None:
    speakers = OnlineSpeakers()

    assert speakers.labels([voice(ANNA, 1.4)]) == [None]
    assert speakers.labels([voice(ANNA)]) == [0]
    assert speakers.labels([voice(ANNA, 1.4), voice(ANNA, 0.9)]) == [0, None]


def test_a_voice_that_may_be_somebodys_is_nobodys() -> None:
    speakers = OnlineSpeakers()
    speakers.labels([voice(ANNA)])

    assert speakers.labels([alike((SAME + OTHER) / 2)]) == [None]
    assert speakers.labels([alike(OTHER - 0.01)]) == [1]
    assert speakers.labels([voice(ANNA)]) == [0]


def test_beyond_the_most_speakers_a_voice_is_the_most_similar_ones() -> None:
    speakers = OnlineSpeakers(most=2)
    speakers.labels([voice(ANNA)])
    speakers.labels([voice(BEN)])

    assert speakers.labels([alike(0.3)]) == [0]
    assert len(speakers) == 2


def test_who_was_told_before_is_known_after_a_session_went_on() -> None:
    speakers = OnlineSpeakers()
    speakers.labels([voice(ANNA)])
    speakers.labels([voice(BEN)])

    later = OnlineSpeakers.from_json(speakers.to_json())

    assert later.labels([voice(BEN)]) == [1]
    assert later.labels([voice(CARL)]) == [2]
    assert OnlineSpeakers.from_json(OnlineSpeakers().to_json()).labels([voice(BEN)]) == [0]
    assert OnlineSpeakers.from_json("").labels([voice(BEN)]) == [0]


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0.0, 6.0)), max_size=30))
def test_new_speakers_are_numbered_in_order_and_one_person_is_never_two(
    talks: list[tuple[int, float]],
) -> None:
    speakers = OnlineSpeakers()
    people: dict[int, int] = {}
    for person, alone_s in talks:
        (label,) = speakers.labels([voice((ANNA, BEN, CARL)[person], alone_s)])
        assert label is None or label == people.setdefault(person, len(people))


@pytest.mark.parametrize("told", ["[1]", '[1, "AAAA"]', "nonsense"])
def test_what_tells_of_no_speakers_is_an_error(told: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        OnlineSpeakers.from_json(told)
