"""Turns out of windows, whatever the order in which spans were heard."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from shared.infra.errors import ModelError
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.speakers.turns import SpeakerHints
from worker.diarization import timeline
from worker.diarization.agreement import TOGETHER_FRAMES, disagree
from worker.diarization.campplus_seg3 import tell_apart
from worker.diarization.hearing import EMBED_EVERY, FIRST_FRAME_SAMPLES, FRAME_SAMPLES
from worker.diarization.protocol import Activities, Diarization

N_FRAMES = 589
STEP = 148 * FRAME_SAMPLES
N_FEATURES = 32
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE

Talk = tuple[str, float, float]
"""Who, from when to when, in seconds."""

TALKS: Sequence[Talk] = (
    *(("ada", 1.0, 9.0), ("ben", 9.5, 16.0), ("cleo", 16.5, 24.0), ("ada", 24.5, 31.0)),
    *(("ben", 30.0, 37.0), ("cleo", 37.5, 45.0), ("ada", 45.5, 52.0), ("ben", 52.5, 59.0)),
)


def voice(name: str) -> np.ndarray:
    vector = np.random.default_rng(sum(name.encode())).normal(size=N_FEATURES)
    return vector / np.linalg.norm(vector)


def heard(talks: Sequence[Talk], begin_s: float, end_s: float) -> Activities:
    """Return what a faultless diarizer hears of [begin_s, end_s); local speakers by first talk."""
    starts = np.arange(round(begin_s * SAMPLE_RATE), round(end_s * SAMPLE_RATE), STEP)
    activity = np.zeros((len(starts), N_FRAMES, 3), np.uint8)
    windows, voices, alone_s, embeddings = [], [], [], []
    for window, start in enumerate(starts):
        times = (start + FIRST_FRAME_SAMPLES + FRAME_SAMPLES * np.arange(N_FRAMES)) / SAMPLE_RATE
        inside = {name: np.zeros(N_FRAMES, bool) for name, _, _ in talks}
        for name, first_s, last_s in talks:
            inside[name] |= (times >= first_s) & (times < last_s)
        present = [name for name in inside if inside[name].any()]
        present.sort(key=lambda name: int(inside[name].argmax()))
        for local, name in enumerate(present[:3]):
            activity[window, :, local] = 255 * inside[name]
            alone = inside[name] & (sum(inside.values()) == 1)
            if window % EMBED_EVERY == 0:
                windows.append(window)
                voices.append(local)
                alone_s.append(alone.sum() * FRAME_S)
                embeddings.append(voice(name))
    return Activities(
        starts.astype(np.int64),
        np.full(len(starts), N_FRAMES, np.int32),
        activity,
        np.array(windows, np.int32),
        np.array(voices, np.uint8),
        np.array(alone_s, np.float16),
        np.array(embeddings, np.float16).reshape(len(embeddings), N_FEATURES),
    )


def diarized(*spans: Activities, hints: SpeakerHints | None = None) -> Diarization:
    return tell_apart(timeline.join(spans), hints or SpeakerHints())


def spoken(diarization: Diarization) -> list[Talk]:
    """Return the turns with their cuts at overlaps joined, named by their order."""
    joined: list[Talk] = []
    for speaker in range(len(diarization.centroids)):
        own = [turn for turn in diarization.turns if turn.speaker == speaker]
        for turn in own:
            if joined and joined[-1][0] == str(speaker) and turn.start_s - joined[-1][2] < 0.001:
                joined[-1] = (str(speaker), joined[-1][1], turn.end_s)
            else:
                joined.append((str(speaker), turn.start_s, turn.end_s))
    return sorted(joined, key=lambda talk: talk[1])


def test_turns_are_as_spoken_and_numbered_by_first_appearance() -> None:
    diarization = diarized(heard(TALKS, 0, 55))

    numbers = {"ada": "0", "ben": "1", "cleo": "2"}
    assert [who for who, _, _ in spoken(diarization)] == [numbers[who] for who, _, _ in TALKS]
    times = [[begin_s, end_s] for _, begin_s, end_s in spoken(diarization)]
    np.testing.assert_allclose(times, [[begin, end] for _, begin, end in TALKS], atol=2 * FRAME_S)
    np.testing.assert_allclose(
        diarization.centroids, [voice("ada"), voice("ben"), voice("cleo")], atol=0.01
    )


def test_overlap_is_flagged_where_two_talk_and_nowhere_else() -> None:
    diarization = diarized(heard(TALKS, 0, 55))

    overlaps = [turn for turn in diarization.turns if turn.overlap]
    assert {turn.speaker for turn in overlaps} == {0, 1}
    for turn in overlaps:
        np.testing.assert_allclose([turn.start_s, turn.end_s], [30, 31], atol=2 * FRAME_S)


def test_spans_may_come_in_any_order_and_overlap() -> None:
    spans = [heard(TALKS, 0, 25), heard(TALKS, 15, 40), heard(TALKS, 30, 55)]
    expected = diarized(*spans)

    for order in itertools.permutations(spans):
        found = diarized(*order)
        assert found.turns == expected.turns
        np.testing.assert_array_equal(found.centroids, expected.centroids)
    assert [who for who, _, _ in spoken(expected)] == list("01201201")


def test_windows_of_spans_that_overlap_come_in_time_order() -> None:
    spans = [heard(TALKS, 0, 25), heard(TALKS, 15, 40)]

    windows = timeline.join(spans)

    assert windows.firsts.tolist() == sorted(windows.firsts.tolist())
    whole = timeline.join(spans[1:])
    moved = np.isin(windows.firsts[windows.windows], whole.firsts[whole.windows])
    assert moved.sum() >= len(whole.windows)
    for number, window in enumerate(windows.windows):
        spoken = windows.activity[window][:, windows.voices[number]]
        assert spoken.any(), "the embedding is of a voice that its window has"


@pytest.mark.parametrize("block", [50, 333, 1000])
def test_turns_do_not_depend_on_how_many_frames_are_judged_at_once(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    talks = [*TALKS, ("ada", 50.0, 50.08), ("cleo", 47.0, 47.3)]  # a click, and an interjection
    expected = diarized(heard(talks, 0, 55))
    monkeypatch.setattr(timeline, "BLOCK_FRAMES", block)

    found = diarized(heard(talks, 0, 55))

    assert len(found.turns) == len(expected.turns)
    for turn, other in zip(found.turns, expected.turns, strict=True):
        assert turn == replace(other, confidence=turn.confidence)
        np.testing.assert_allclose(turn.confidence, other.confidence, atol=0.001)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_turns_have_as_many_speakers_as_is_asked(count: int) -> None:
    diarization = diarized(heard(TALKS, 0, 55), hints=SpeakerHints(count=count))

    n_voices = 3  # the same voice is not two speakers
    expected = min(count, n_voices)
    assert {turn.speaker for turn in diarization.turns} >= set(range(expected))
    assert len(diarization.centroids) >= expected


def test_recording_without_speech_has_no_speakers() -> None:
    silence = heard((), 0, 20)

    assert diarized().turns == ()
    assert diarized(silence).turns == ()
    assert len(diarized(silence, hints=SpeakerHints(count=2)).centroids) == 0


def test_activities_are_compact_and_come_back_equal() -> None:
    activities = heard([(who, at % 600, at % 600 + 6) for who, at, _ in TALKS], 0, 600)

    content = activities.to_bytes()
    found = Activities.from_bytes(content)

    assert len(content) < 300_000
    for name in ("starts", "lengths", "activity", "windows", "voices", "alone_s", "embeddings"):
        np.testing.assert_array_equal(getattr(found, name), getattr(activities, name))


@pytest.mark.parametrize("content", [b"", b"what", heard(TALKS, 0, 20).to_bytes()[:-20]])
def test_damaged_activities_are_told_as_such(content: bytes) -> None:
    with pytest.raises(ModelError):
        Activities.from_bytes(content)


def talking(*speakers: tuple[int, int, int]) -> np.ndarray:
    """Who talks in 200 frames: local speakers, from and to which frame."""
    talks = np.zeros((200, 3), np.bool_)
    for local, begin, end in speakers:
        talks[begin:end, local] = True
    return talks


def test_windows_disagree_where_one_hears_two_people_for_long_enough() -> None:
    two = talking((0, 0, 100), (1, 100, 200))
    assert not disagree(two, two, 0)
    assert not disagree(two, talking((2, 0, 50), (0, 50, 150)), 50), "the numbers are their own"
    one = talking((1, 0, 150))
    assert disagree(two, one, 50)
    assert disagree(one, talking((0, 0, 60), (2, 60, 140)), 10)
    assert not disagree(two, one, 100 - TOGETHER_FRAMES + 1), "too short in common"
    assert not disagree(two, talking((1, 0, 150), (0, 0, 50)), 50), "they overlap there"
    assert not disagree(two, one, 300)
