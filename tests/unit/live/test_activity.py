"""When somebody begins to speak, pauses and has finished."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from harness.live.audio import OPTIONS, Talk, samples, silence
from harness.media.vowels import vowels
from shared.speech.audio.samples import Pcm
from shared.speech.audio.spans import Span
from shared.speech.audio.voice_activity import WINDOW_SAMPLES
from shared.speech.live.activity import Activity, Change
from shared.speech.live.events import SpeechEnded, SpeechStarted
from shared.speech.live.options import LiveOptions
from shared.speech.live.requests import LiveAnswer, LiveRequest
from shared.speech.live.scores import make_scorer

WINDOW = np.zeros(WINDOW_SAMPLES, np.int16)


class Script:
    """Gives the scores that it is told."""

    def __init__(self, scores: Iterable[float]) -> None:
        self._scores = iter(scores)
        self.n_resets = 0

    def score(self, window: Pcm) -> float:
        return next(self._scores, 0.0)

    def reset(self) -> None:
        self.n_resets += 1


def follow(scores: list[float], options: LiveOptions = OPTIONS) -> list[tuple[int, Change]]:
    """Return the changes, each with the number of its window."""
    activity = Activity(Script(scores), options)
    changes = [(at, activity.push(WINDOW)) for at in range(len(scores))]
    return [(at, change) for at, change in changes if change is not None]


def test_speech_starts_pauses_and_ends_after_the_times_set() -> None:
    scores = [0.0] * 10 + [0.9] * 20 + [0.0] * 20

    # 150 ms are 5 windows; 200 and 500 ms of silence are 7 and 16.
    assert follow(scores) == [(14, Change.STARTED), (36, Change.PAUSED), (45, Change.ENDED)]


def test_speech_goes_on_after_a_short_pause() -> None:
    scores = [0.9] * 10 + [0.0] * 10 + [0.9] * 5 + [0.0] * 16

    assert [change for _, change in follow(scores)] == [
        *(Change.STARTED, Change.PAUSED, Change.RESUMED, Change.PAUSED, Change.ENDED)
    ]


def test_a_noise_is_no_speech_however_often_it_comes() -> None:
    assert follow(([0.9] * 3 + [0.0] * 8) * 10) == []


def test_a_stutter_is_speech() -> None:
    assert follow([0.9, 0.9, 0.9, 0.0, 0.0, 0.9, 0.9])[0][1] is Change.STARTED


def test_speech_lasts_while_scores_are_a_little_below_the_threshold() -> None:
    assert follow([0.0] * 5 + [0.45] * 20) == []
    assert [change for _, change in follow([0.6] + [0.4] * 30)] == [Change.STARTED]


def test_speech_reaches_back_to_the_scores_that_led_up_to_it() -> None:
    activity = Activity(Script([0.0] * 10 + [0.4] * 5 + [0.9] * 5), OPTIONS)
    for _ in range(20):
        activity.push(WINDOW)

    assert activity.speech == Span(10 * WINDOW_SAMPLES, 20 * WINDOW_SAMPLES)


def test_the_scorer_forgets_in_long_silence_only() -> None:
    script = Script([0.9] * 2_000)
    activity = Activity(script, OPTIONS)
    for _ in range(2_000):
        activity.push(WINDOW)
    assert script.n_resets == 0

    for _ in range(samples(31) // WINDOW_SAMPLES):
        activity.push(WINDOW)

    assert script.n_resets == 3


@pytest.mark.parametrize("name", ["silero", "energy"])
def test_a_detector_hears_a_voice_and_its_pauses(name: str) -> None:
    class Deaf(Talk):
        def answer(self, request: LiveRequest) -> LiveAnswer:
            return LiveAnswer(request.id, None, error="deaf")

    talk = Deaf(replace(OPTIONS, vad=name))  # type: ignore[arg-type]
    voice = vowels(2).astype("<i2").tobytes()

    talk.push_frames(silence(1) + voice + silence(1.5) + voice + silence(1))

    starts = [event.at for event in talk.events if isinstance(event, SpeechStarted)]
    ends = [event.at for event in talk.events if isinstance(event, SpeechEnded)]
    assert starts == pytest.approx([samples(1), samples(4.5)], abs=samples(0.15))
    assert ends == pytest.approx([samples(3), samples(6.5)], abs=samples(0.25))


@pytest.mark.parametrize("level", [0, 3, 100, 1_000])
def test_nothing_is_said_in_noise(level: int) -> None:
    noise = np.random.default_rng(1).normal(0, level, samples(20)).astype("<i2")
    talk = Talk(replace(OPTIONS, vad="silero"))

    talk.push(noise.tobytes())

    assert not talk.requests
    assert not talk.events


def test_a_microphone_that_is_muted_costs_the_network_nothing_and_hides_no_speech() -> None:
    scorer = make_scorer("silero")
    asked = []
    network = scorer._network  # type: ignore[attr-defined]
    scorer._network = lambda windows: asked.append(1) or network(windows)  # type: ignore[attr-defined]
    for _ in range(1_000):
        scorer.score(WINDOW)
    n_asked = len(asked)

    voice = vowels(1)
    scores = [
        scorer.score(voice[at : at + WINDOW_SAMPLES])
        for at in range(0, len(voice) - WINDOW_SAMPLES, WINDOW_SAMPLES)
    ]

    assert n_asked == 32
    assert max(scores[:6]) > 0.5
