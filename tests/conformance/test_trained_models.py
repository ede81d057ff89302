"""Small models, but trained ones, hear what is said: real words through every engine."""

from collections.abc import Callable
from functools import cache

import jiwer
import numpy as np
import pytest

from bench import loops
from bench.audio import music
from harness.engines.trained_models import (
    FRAMEWISE,
    MODELS,
    MOST_WORD_ERRORS,
    WHISPERS,
    Sentence,
    catalogue,
    heldout,
    recite,
)
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Hypothesis
from worker.engines import load_engine
from worker.engines.protocol import DecodeOptions, Engine

OPTIONS = DecodeOptions(language="en")
MOST_BYTES = 14_000_000
TIME_TOLERANCE_S = 0.25
"""Whisper's own times are that rough; the others know them to a frame."""


@pytest.fixture(scope="module")
def loaded() -> Callable[[str], Engine]:
    """Return a loader that loads each model once."""
    return cache(lambda model: load_engine(catalogue().get(model), device="cpu"))


@pytest.fixture(params=WHISPERS + FRAMEWISE)
def model_id(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(model_id: str, loaded: Callable[[str], Engine]) -> Engine:
    return loaded(model_id)


@pytest.fixture(params=WHISPERS)
def whisper(request: pytest.FixtureRequest, loaded: Callable[[str], Engine]) -> Engine:
    return loaded(request.param)


@pytest.fixture(scope="module")
def sentences() -> list[Sentence]:
    return heldout()


def text_of(hypothesis: Hypothesis) -> str:
    return " ".join(word.text.strip() for word in hypothesis.words)


def test_held_out_sentences_are_heard(engine: Engine, sentences: list[Sentence]) -> None:
    heard: list[Hypothesis] = []
    for at in range(0, len(sentences), engine.max_batch):
        batch = [sentence.samples for sentence in sentences[at : at + engine.max_batch]]
        heard += engine.transcribe(batch, OPTIONS)

    assert len(sentences) >= 12
    said, words = [s.text for s in sentences], [text_of(hypothesis) for hypothesis in heard]
    assert jiwer.wer(said, words) <= MOST_WORD_ERRORS, words


def test_every_sentence_of_a_full_window_is_heard(
    model_id: str, engine: Engine, sentences: list[Sentence]
) -> None:
    window_samples = round(catalogue().get(model_id).window_s * SAMPLE_RATE)
    recitals = [recite(sentences[:n])[0] for n in range(1, len(sentences) + 1)]
    fullest = [recital for recital in recitals if len(recital.samples) <= window_samples][-1]
    assert len(fullest.text.split()) > len(sentences[0].text.split())

    (heard,) = engine.transcribe([fullest.samples], OPTIONS)

    assert jiwer.wer(fullest.text, text_of(heard)) <= MOST_WORD_ERRORS


@pytest.mark.parametrize("lead_s", [0.0, 0.5, 1.0])
def test_words_are_timed_to_where_they_are_spoken(
    engine: Engine, sentences: list[Sentence], lead_s: float
) -> None:
    lead = np.zeros(round(lead_s * SAMPLE_RATE), np.float32)
    sentence = sentences[0]

    (heard,) = engine.transcribe([np.concatenate([lead, sentence.samples, lead])], OPTIONS)

    first, last = heard.words[0], heard.words[-1]
    said = sentence.text.split()
    assert (first.text.strip(), last.text.strip()) == (said[0], said[-1])
    tolerance = round(TIME_TOLERANCE_S * SAMPLE_RATE)
    assert len(lead) - tolerance <= first.start
    assert first.end <= len(lead) + len(sentence.samples) / 2
    assert last.start >= len(lead) + len(sentence.samples) / 2
    assert last.end <= len(lead) + len(sentence.samples) + tolerance


def test_words_that_are_heard_well_are_trusted(engine: Engine, sentences: list[Sentence]) -> None:
    (clear,) = engine.transcribe([sentences[0].samples], OPTIONS)

    confidences = [word.confidence for word in clear.words]
    assert all(c is not None and 0 < c <= 1 for c in confidences)
    assert np.mean([c for c in confidences if c is not None]) > 0.8


@pytest.mark.parametrize("n_batches", [2, pytest.param(5, marks=pytest.mark.soak)])
def test_loops_in_batches_are_caught_and_leave_the_words_that_were_said(
    whisper: Engine, n_batches: int
) -> None:
    looping, others = loops.measure(whisper, n_batches=n_batches)

    assert looping.n >= 3 * n_batches
    assert looping.n_again >= 0.99 * looping.n
    assert others.n_again == 0
    assert max(looping.wer, others.wer) <= MOST_WORD_ERRORS


@pytest.mark.parametrize("level", [0.0, 0.001, 0.01, 0.1])
def test_whisper_stays_quiet_where_nothing_is_said(whisper: Engine, level: float) -> None:
    noise: Samples = np.random.default_rng(1).normal(0, 1, 30 * SAMPLE_RATE).astype(np.float32)

    (heard,) = whisper.transcribe([level * noise], OPTIONS)

    assert heard.words == ()


@pytest.mark.parametrize("seed", range(4))
def test_whisper_stays_quiet_where_music_is_played(whisper: Engine, seed: int) -> None:
    pcm = np.concatenate([*music(30.0, -20, seed)])

    (heard,) = whisper.transcribe([pcm.astype(np.float32) / 32768], OPTIONS)

    assert heard.words == ()


def test_whisper_detects_the_language_it_was_taught(
    whisper: Engine, sentences: list[Sentence]
) -> None:
    (heard,) = whisper.transcribe([sentences[0].samples], DecodeOptions(task="detect"))

    assert (heard.words, heard.language) == ((), "en")
    assert heard.language_probability is not None
    assert heard.language_probability > 0.9


def test_both_whispers_hear_alike(
    loaded: Callable[[str], Engine], sentences: list[Sentence]
) -> None:
    texts = []
    for model in WHISPERS:
        engine = loaded(model)
        heard = [engine.transcribe([s.samples], OPTIONS)[0] for s in sentences]
        texts.append([text_of(hypothesis) for hypothesis in heard])

    assert jiwer.wer(texts[0], texts[1]) <= MOST_WORD_ERRORS


def test_the_models_stay_small() -> None:
    sizes = [path.stat().st_size for path in MODELS.rglob("*") if path.is_file()]

    assert sum(sizes) <= MOST_BYTES
