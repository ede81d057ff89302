"""Cutting in speech costs a trained network nothing: chunks say what the whole says."""

import jiwer
import numpy as np
import pytest
from trainedmodels import catalogue

from bench.audio import to_pcm
from bench.cuts import accuracy, transcribe_uncut
from bench.pipeline import transcribe
from bench.speech import heldout, recite
from worker.engines import load_engine
from worker.engines.protocol import Engine

DURATION_S = 600
SHORT_WINDOW_S = 6.0
LEAST_AS_UNCUT = 0.999
MOST_NEAR_CUTS = 1.05
"""The word error rate within a second of a cut, as a multiple of that elsewhere."""


@pytest.fixture(scope="module")
def conformer() -> Engine:
    return load_engine(catalogue().get("tiny-conformer"), device="cpu")


@pytest.mark.parametrize("gaps_s", [(0.1, 1.0), (0.0, 0.0)], ids=["pauses", "no pauses"])
@pytest.mark.parametrize("window_s", [12.0, SHORT_WINDOW_S])
def test_chunks_say_what_the_whole_says(
    conformer: Engine, gaps_s: tuple[float, float], window_s: float
) -> None:
    recital = recite(heldout(), DURATION_S, np.random.default_rng(1), gaps_s)
    pcm = to_pcm(recital.samples)
    uncut = transcribe_uncut(conformer, recital, pcm, catalogue().get("tiny-conformer").window_s)

    outcome = transcribe([pcm], conformer, vad="off", window_s=window_s)

    assert len(outcome.cuts_s) >= DURATION_S / window_s
    assert 1 - jiwer.cer(uncut, " ".join(word.text for word in outcome.words)) >= LEAST_AS_UNCUT
    found = accuracy(recital, outcome)
    assert found.n_near > 200
    assert found.wer_near <= MOST_NEAR_CUTS * found.wer_interior
