"""How steady the text of real speech is while somebody speaks, with OpenAI's tiny.en.

A session hears recordings, and the model answers a fixed time of the recording's later
(``bench.live.steadiness``): no clock matters.
"""

from dataclasses import replace

import numpy as np
import pytest

from bench.live.steadiness import Told, hearing, n_errors, options_of, replay
from bench.pipeline import read
from harness.engines.real_models import BECKETT, TWO_CITIES, real_models, recording
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.live.options import samples_of
from worker.engines import load_engine

MOST_CHANGED = 0.15
"""Words that were shown and changed, for each word of the finals."""
BEGINNING_S = 6
"""Of two_cities.wav, which is long."""
BEGINNING = "It was the best of times, it was the worst of times, it was the age of wisdom"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def told() -> tuple[Told, Told]:
    """Have both recordings heard: BECKETT, and the beginning of TWO_CITIES with fewer partials."""
    model = real_models().get("tiny.en-ct2")
    # In int8, whose rounding is the processor's, the model leaves out a clause on some.
    engine = load_engine(model, device="cpu", dtype="float32")
    hear, options = hearing(engine, model), options_of(model)
    pcm = []
    for each in (BECKETT, TWO_CITIES):
        with recording(each).open("rb") as file:
            pcm.append(np.concatenate([*read(file)]))
    rarer = replace(options, partial_interval=samples_of(600))
    beginning = pcm[1][: BEGINNING_S * SAMPLE_RATE]
    return replay(pcm[0], options, hear), replay(beginning, rarer, hear)


def test_few_words_change_that_were_shown_and_none_that_was_committed(
    told: tuple[Told, Told],
) -> None:
    for each in told:
        n_partials = sum(len(shown) for shown in each.shown.values()) - len(each.finals)
        assert n_partials > len(each.finals)
        assert each.n_changed <= MOST_CHANGED * each.n_words
        assert each.n_retracted == 0
        assert each.cpu_s > 0


def test_the_finals_have_what_was_said(told: tuple[Told, Told]) -> None:
    assert n_errors(BECKETT.text, told[0].text) == 0
    assert n_errors(BEGINNING, told[1].text) == 0
