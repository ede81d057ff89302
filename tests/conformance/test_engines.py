"""What every engine must do, asked of every engine."""

import re
import threading
import wave
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest

from harness.engines import trained_models
from harness.engines.random_ctc import WRITERS
from shared.infra.errors import ModelError
from shared.models import weights
from shared.models.catalogue import Model
from shared.models.engine_packages import missing_engine
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Hypothesis
from worker.engines import load_engine
from worker.engines.oracle import encode
from worker.engines.protocol import DecodeOptions, Engine

SAMPLES = Path(__file__).parents[2] / "samples"
OPTIONS = DecodeOptions(language="en", beam_size=2)


@pytest.fixture(scope="session")
def hello() -> Samples:
    with wave.open(str(SAMPLES / "hello.wav")) as file:
        assert file.getframerate() == SAMPLE_RATE
        pcm = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    return pcm.astype(np.float32) / 32768


@pytest.fixture(
    scope="session",
    params=[
        *("starter", "whisper-tiny", "random-whisper", "oracle"),
        *(*WRITERS, *trained_models.FRAMEWISE),
    ],
)
def engine(
    request: pytest.FixtureRequest,
    catalogue_models: dict[str, Model],
    random_whisper: Model,
    random_transformers_whisper: Model,
    random_ctcs: dict[str, Model],
) -> Engine:
    models = catalogue_models | random_ctcs | {"random-whisper": random_transformers_whisper}
    if request.param not in models:
        models |= trained_models.catalogue().models
    return load_engine(models[request.param], device="cpu")


def without_confidence(hypothesis: Hypothesis) -> Hypothesis:
    """Leave out what may differ by a rounding error with the shape of the batch."""
    words = tuple(replace(word, confidence=None) for word in hypothesis.words)
    return replace(hypothesis, words=words, decoding=None)


def measures(hypothesis: Hypothesis) -> tuple[float, ...] | None:
    """What a decoder measured of an item with words; at a higher temperature tokens are drawn."""
    decoding = hypothesis.decoding
    is_sure = hypothesis.words and decoding is not None and not decoding.temperature
    return astuple(decoding) if is_sure and decoding is not None else None


def confidences(hypotheses: list[Hypothesis]) -> list[float | None]:
    return [word.confidence for hypothesis in hypotheses for word in hypothesis.words]


@pytest.fixture(scope="session")
def batch(hello: Samples) -> list[Samples]:
    """Speech, tone-coded words, noise, silence: each engine hears words in one of them at least."""
    tones, _ = encode([1, 2, 3])
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    return [hello[: 3 * SAMPLE_RATE], tones, noise, np.zeros(SAMPLE_RATE, dtype=np.float32)]


@pytest.fixture(scope="session")
def heard(engine: Engine, batch: list[Samples]) -> list[Hypothesis]:
    return engine.transcribe(batch, OPTIONS)


def test_engine_hears_something(heard: list[Hypothesis]) -> None:
    assert any(hypothesis.words for hypothesis in heard)


def test_batch_gives_what_its_items_give_alone_in_any_order(
    engine: Engine, batch: list[Samples], heard: list[Hypothesis]
) -> None:
    alone = [engine.transcribe([item], OPTIONS)[0] for item in reversed(batch)]

    assert list(map(without_confidence, alone[::-1])) == list(map(without_confidence, heard))
    assert confidences(alone[::-1]) == pytest.approx(confidences(heard), abs=1e-3)
    for one, same in zip(map(measures, alone[::-1]), map(measures, heard), strict=True):
        assert None in (one, same) or one == pytest.approx(same, abs=1e-2)


def test_word_times_lie_in_the_item_and_never_step_back(
    batch: list[Samples], heard: list[Hypothesis]
) -> None:
    for item, hypothesis in zip(batch, heard, strict=True):
        times = [time for word in hypothesis.words for time in (word.start, word.end)]
        assert all(isinstance(time, int) for time in times)
        assert times == sorted(times)
        assert all(0 <= time <= len(item) for time in times)


def test_words_have_text_and_confidence_is_a_probability(heard: list[Hypothesis]) -> None:
    for word in (word for hypothesis in heard for word in hypothesis.words):
        assert word.text.strip()
        assert word.confidence is None or 0 <= word.confidence <= 1


@pytest.mark.parametrize("seconds", [0.0, 0.01, 1.0, 6.0])
def test_silence_gives_no_words(engine: Engine, seconds: float) -> None:
    silence = np.zeros(round(seconds * SAMPLE_RATE), dtype=np.float32)

    assert engine.transcribe([silence], OPTIONS)[0].words == ()


def test_very_short_item_is_no_error(engine: Engine, hello: Samples) -> None:
    (hypothesis,) = engine.transcribe([hello[16_000:16_160]], OPTIONS)

    assert all(word.end <= 160 for word in hypothesis.words)


def test_empty_batch_gives_nothing(engine: Engine) -> None:
    assert engine.transcribe([], OPTIONS) == []


def test_any_thread_may_call(engine: Engine, batch: list[Samples], heard: list[Hypothesis]) -> None:
    results: list[list[Hypothesis]] = []

    thread = threading.Thread(target=lambda: results.append(engine.transcribe(batch, OPTIONS)))
    thread.start()
    thread.join()

    assert results == [heard]


def test_given_language_is_reported_back(engine: Engine, batch: list[Samples]) -> None:
    hypotheses = engine.transcribe(batch[1:2], DecodeOptions(language="en", beam_size=1))

    assert [hypothesis.language for hypothesis in hypotheses] == ["en"]


def test_engine_names_itself_and_its_device(engine: Engine) -> None:
    assert engine.device == "cpu"
    assert re.fullmatch(r"(int8_)?float(32|64)|bfloat16", engine.dtype)
    assert re.fullmatch("sha256:[0-9a-f]{64}", engine.weights_digest)
    assert engine.version.split()[1][0].isdigit()
    assert engine.max_batch >= 1


def test_starter_understands_the_sample(catalogue_models: dict[str, Model], hello: Samples) -> None:
    (hypothesis,) = load_engine(catalogue_models["starter"]).transcribe([hello], OPTIONS)

    words = [word.text for word in hypothesis.words]
    assert words[:3] == ["hello", "and", "welcome"]
    assert words[-3:] == ["speech", "into", "text"]
    assert all(word.end - word.start < SAMPLE_RATE for word in hypothesis.words)


@pytest.mark.parametrize("level", [0.001, 0.01, 0.1])
def test_starter_makes_up_no_words_for_noise(
    catalogue_models: dict[str, Model], level: float
) -> None:
    noise = np.random.default_rng(7).normal(0, level, 5 * SAMPLE_RATE).astype(np.float32)

    (hypothesis,) = load_engine(catalogue_models["starter"]).transcribe([noise], OPTIONS)

    assert hypothesis.words == ()


def test_starter_lets_other_threads_run_while_it_decodes(
    catalogue_models: dict[str, Model], hello: Samples
) -> None:
    engine = load_engine(catalogue_models["starter"])

    def turns_meanwhile() -> int:
        done = threading.Event()
        turns = 0

        def count_turns() -> None:
            nonlocal turns
            while not done.wait(0.01):
                turns += 1

        counter = threading.Thread(target=count_turns)
        counter.start()
        engine.transcribe([hello], OPTIONS)
        done.set()
        counter.join()
        return turns

    # About five a second of audio; were the item one call, they would be three in all. The other
    # thread may stand still meanwhile, but not each time.
    assert any(turns_meanwhile() >= 2 * len(hello) / SAMPLE_RATE for _ in range(4))


def test_wheel_with_another_model_than_pinned_is_refused(
    catalogue_models: dict[str, Model],
) -> None:
    other = catalogue_models["starter"].model_copy(update={"revision": "sha256:0"})

    with pytest.raises(ModelError, match="the catalogue pins sha256:0 for 'starter'"):
        load_engine(other)


def test_whisper_detects_a_language_the_catalogue_knows(
    random_whisper: Model, batch: list[Samples]
) -> None:
    (hypothesis,) = load_engine(random_whisper, device="cpu").transcribe(
        batch[:1], DecodeOptions(beam_size=1)
    )

    assert hypothesis.language is not None
    assert random_whisper.speaks(hypothesis.language)


def test_whisper_knows_every_language_of_its_catalogue_entry(
    catalogue_models: dict[str, Model],
) -> None:
    from faster_whisper.tokenizer import _LANGUAGE_CODES

    third_generation = catalogue_models["whisper-large-v3"].languages
    assert third_generation == {"jv" if code == "jw" else code for code in _LANGUAGE_CODES}
    assert catalogue_models["whisper-small"].languages == third_generation - {"yue"}


def test_weights_not_in_the_cache_are_a_clear_error(
    catalogue_models: dict[str, Model], random_whisper: Model
) -> None:
    absent = catalogue_models["whisper-small"]

    assert weights.cached(absent) is None
    with pytest.raises(ModelError, match="weights of model 'whisper-small' have not been fetched"):
        load_engine(absent, device="cpu")


def test_weights_that_come_with_their_engine_are_always_there(
    catalogue_models: dict[str, Model],
) -> None:
    for model in (catalogue_models["starter"], catalogue_models["oracle"]):
        folder = weights.cached(model)
        assert missing_engine(model) is None
        assert folder is not None
        assert weights.download(model, lambda done, total: None) == folder
