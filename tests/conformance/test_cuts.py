"""Cutting in speech costs networks that hear frame by frame nothing, and a Whisper little."""

import jiwer
import numpy as np
import pytest

from bench.audio import to_pcm
from bench.cuts import accuracy, transcribe_uncut
from bench.pipeline import transcribe
from bench.speech import heldout, recite
from harness.engines.trained_models import catalogue
from worker.engines import load_engine

SOAK_S = 600
FRAMEWISE = [
    *(("tiny-conformer", 12.0, 120), ("tiny-conformer", 6.0, 120)),
    *(("tiny-transducer", 12.0, 120), ("tiny-w2v-bert", 8.0, 60)),
]
"""A model, the length of its chunks and that of the recital, in seconds. w2v-BERT is slow."""
LEAST_AS_UNCUT = 0.999
MOST_NEAR_CUTS = 1.05
"""The word error rate within a second of a cut, as a multiple of that elsewhere."""
MOST_NEAR_WHISPERS_CUTS = 0.01
"""That rate for Whisper, of which nothing is promised: with words lost and doubled it was 4 %."""


@pytest.mark.parametrize("gaps_s", [(0.1, 1.0), (0.0, 0.0)], ids=["pauses", "no pauses"])
@pytest.mark.parametrize(
    ("model_id", "window_s", "duration_s"),
    [
        *FRAMEWISE,
        *(pytest.param(*each[:2], SOAK_S, marks=pytest.mark.soak) for each in FRAMEWISE),
    ],
)
def test_chunks_say_what_the_whole_says(
    model_id: str, window_s: float, duration_s: int, gaps_s: tuple[float, float]
) -> None:
    model = catalogue().get(model_id)
    engine = load_engine(model, device="cpu")
    recital = recite(heldout(), duration_s, np.random.default_rng(1), gaps_s)
    pcm = to_pcm(recital.samples)
    uncut = transcribe_uncut(engine, recital, pcm, model.window_s)

    outcome = transcribe([pcm], engine, vad="off", window_s=window_s)

    assert len(outcome.cuts_s) >= duration_s / window_s
    assert 1 - jiwer.cer(uncut, " ".join(word.text for word in outcome.words)) >= LEAST_AS_UNCUT
    found = accuracy(recital, outcome)
    assert found.n_near > duration_s / 3
    assert found.wer_near <= MOST_NEAR_CUTS * found.wer_interior


@pytest.mark.parametrize("duration_s", [120, pytest.param(SOAK_S, marks=pytest.mark.soak)])
def test_whispers_words_at_cuts_are_kept_once_though_it_times_them_roughly(
    duration_s: int,
) -> None:
    model = catalogue().get("tiny-whisper-ct2")
    recital = recite(heldout(), duration_s, np.random.default_rng(1), (0.0, 0.0))

    outcome = transcribe(
        [to_pcm(recital.samples)],
        load_engine(model, device="cpu"),
        vad="off",
        window_s=model.window_s,
    )

    found = accuracy(recital, outcome)
    assert found.n_near > duration_s / 3
    assert found.wer_near <= MOST_NEAR_WHISPERS_CUTS
