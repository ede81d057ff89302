"""Which language a job is in, from what a few chunks were heard in."""

import pytest

from shared.speech.chunks.hypothesis import Hypothesis
from worker.steps.detect import choose_language


def heard(language: str | None, probability: float | None = None) -> Hypothesis:
    return Hypothesis((), language, probability)


@pytest.mark.parametrize(
    ("hypotheses", "language", "probability"),
    [
        ([heard("en", 0.9), heard("de", 0.6), heard("en", 0.6)], "en", 0.5),
        ([heard("en", 0.3), heard("de", 0.9), heard("en", 0.4)], "de", 0.3),
        ([heard(None), heard("fr", 0.8)], "fr", 0.8),
    ],
)
def test_the_language_of_a_job_is_the_one_that_gathers_most_probability(
    hypotheses: list[Hypothesis], language: str, probability: float
) -> None:
    chosen, measured = choose_language(hypotheses)

    assert chosen == language
    assert measured == pytest.approx(probability)


def test_where_nothing_was_heard_no_language_is_chosen() -> None:
    assert choose_language([heard(None), heard(None)]) == (None, None)
