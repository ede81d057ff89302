"""Long audio from file to transcript, with an engine that hears exactly what is there."""

from collections import Counter

import numpy as np
import pytest

from bench.audio import place_words, to_pcm, wav_of
from bench.fidelity import SWEEP_STEPS, sweep_step, talk, time_errors_ms
from bench.pipeline import Outcome, read, transcribe
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm
from shared.speech.names import VadName
from worker.engines.oracle import WORD_SAMPLES, EncodedWord, OracleEngine, word_text

WINDOW_S = 12.0
"""Short, so that a minute has many cuts."""
PAUSES_S = [0.1, 0.3, 1.0, 2.5]


def hear(pcm: Pcm, vad: VadName, window_s: float = WINDOW_S) -> Outcome:
    return transcribe(read(wav_of(pcm)), OracleEngine(), vad=vad, window_s=window_s)


def assert_each_word_once(outcome: Outcome, places: list[EncodedWord]) -> None:
    spoken = Counter(word_text(place.number) for place in places)
    heard = Counter(word.text for word in outcome.words)
    assert spoken - heard == Counter(), "lost"
    assert heard - spoken == Counter(), "doubled, or never spoken"
    assert [word.text for word in outcome.words] == [word_text(p.number) for p in places]


@pytest.mark.parametrize("n_windows", [2, pytest.param(10, marks=pytest.mark.soak)])
@pytest.mark.parametrize("vad", ["energy", "off"])
@pytest.mark.parametrize("pauses_s", [[0.0], PAUSES_S], ids=["without pauses", "with pauses"])
def test_no_word_is_lost_or_doubled_wherever_the_chunks_fall(
    vad: VadName, pauses_s: list[float], n_windows: int
) -> None:
    """The chunks' grid is moved over the words in twenty steps, by silence and by noise."""
    n_words = round(n_windows * WINDOW_S / (WORD_SAMPLES / SAMPLE_RATE + np.mean(pauses_s)))
    gaps_s = np.random.default_rng(2).choice(pauses_s, n_words)
    cuts: set[int] = set()
    for step in range(SWEEP_STEPS):
        pcm, places = sweep_step(step, gaps_s.tolist(), WINDOW_S)

        outcome = hear(pcm, vad)

        assert_each_word_once(outcome, places)
        cuts |= {chunk.core_end - places[0].start for chunk in outcome.chunks[:-1]}
    assert len(cuts) > 10, "the cuts did move"


def test_a_word_that_lies_across_a_cut_is_kept_once() -> None:
    """Words without any gap, cut in turn at each of many points within a word."""
    pcm, places = place_words(range(2000, 2200), [0.0] * 200)
    outcome = hear(pcm, "off", window_s=6.0)
    assert len(outcome.cuts_s) >= 8
    inside = [
        place
        for cut_s in outcome.cuts_s
        for place in places
        if place.start < cut_s * SAMPLE_RATE < place.end
    ]
    assert len(inside) >= 8

    assert_each_word_once(outcome, places)


@pytest.mark.parametrize("duration_s", [600, pytest.param(3600, marks=pytest.mark.soak)])
def test_word_times_neither_err_nor_drift(duration_s: int) -> None:
    """Talk with pauses of up to half a minute: they are skipped, and times stay true."""
    pcm, places = talk(duration_s, seed=3)

    outcome = hear(pcm, "energy", window_s=30.0)

    assert_each_word_once(outcome, places)
    assert outcome.skipped_s > duration_s / 3.6
    minutes, errors_ms = time_errors_ms(outcome.words, places)
    assert np.percentile(np.abs(errors_ms), 99) <= 40
    drift_ms_per_min = np.polyfit(minutes, errors_ms, 1)[0]
    assert abs(drift_ms_per_min) <= 0.1


def test_what_the_vad_leaves_out_is_reported() -> None:
    talk, places = place_words(range(3000, 3050), [0.2] * 50)
    quiet = to_pcm(np.zeros(10 * SAMPLE_RATE))

    outcome = hear(np.concatenate([quiet, talk, quiet, quiet]), "energy")

    assert len(outcome.words) == len(places)
    assert outcome.skipped_s == pytest.approx(30 + 0.2 - 2 * 0.4, abs=0.1)
