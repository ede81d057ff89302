"""What both Whisper engines must do beyond what every engine must, over the same weights."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.engines.gated import begin_with
from harness.engines.random_ctc import catalogue_entry
from harness.engines.random_whisper import convert_to_ctranslate2
from shared.infra.errors import DeviceOutOfMemory, EngineFailed, LonghandError, ModelError
from shared.models.catalogue import Model
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Hypothesis
from worker.batching.batcher import Batcher
from worker.engines import load_engine, processors
from worker.engines.processors import Shares
from worker.engines.protocol import DecodeOptions
from worker.engines.whisper import faster_whisper
from worker.engines.whisper.fallback import TEMPERATURES
from worker.engines.whisper.faster_whisper import MOST_BYTES_TWICE, FasterWhisperEngine
from worker.engines.whisper.whisper import Answer, Whisper

ENGINES = ["transformers-whisper", "faster-whisper"]


@pytest.fixture(scope="module")
def models(
    random_transformers_whisper: Model, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Model]:
    """The same random weights for either engine."""
    folder = random_transformers_whisper.folder
    assert folder is not None
    converted = tmp_path_factory.mktemp("whisper") / "ct2"
    convert_to_ctranslate2(folder, converted)
    ct2 = catalogue_entry("random-whisper-ct2", converted, "faster-whisper")
    return {
        "transformers-whisper": random_transformers_whisper,
        "faster-whisper": ct2.model_copy(
            update={"languages": random_transformers_whisper.languages}
        ),
    }


def load(models: dict[str, Model], engine: str) -> Whisper:
    loaded = load_engine(models[engine], device="cpu", dtype="float32")
    assert isinstance(loaded, Whisper)
    return loaded


@pytest.fixture(scope="module")
def whispers(models: dict[str, Model]) -> dict[str, Whisper]:
    return {engine: load(models, engine) for engine in ENGINES}


@pytest.fixture(params=ENGINES)
def whisper(request: pytest.FixtureRequest, whispers: dict[str, Whisper]) -> Whisper:
    return whispers[request.param]


def texts(hypotheses: list[Hypothesis]) -> list[list[str]]:
    return [[word.text for word in hypothesis.words] for hypothesis in hypotheses]


def test_both_engines_hear_alike_with_equal_weights(
    whispers: dict[str, Whisper], noises: list[Samples]
) -> None:
    options = DecodeOptions(language="en", beam_size=1)

    one, other = (whispers[engine].transcribe(noises, options) for engine in ENGINES)

    assert all(hypothesis.words for hypothesis in one)
    assert texts(one) == texts(other)
    for a, b in zip(one, other, strict=True):
        confidences = [[word.confidence for word in x.words] for x in (a, b)]
        assert confidences[0] == pytest.approx(confidences[1], abs=0.02)


def test_language_is_detected_with_its_probability(
    whispers: dict[str, Whisper], noises: list[Samples]
) -> None:
    one, other = (
        whispers[engine].transcribe(noises, DecodeOptions(task="detect")) for engine in ENGINES
    )

    assert all(hypothesis.words == () for hypothesis in one)
    assert [x.language for x in one] == [x.language for x in other]
    shares = [[x.language_probability for x in hypotheses] for hypotheses in (one, other)]
    assert shares[0] == pytest.approx(shares[1], abs=0.02)
    assert all(0 < share <= 1 for share in shares[0])


def test_language_outside_the_catalogue_entry_is_never_detected(
    models: dict[str, Model], noises: list[Samples]
) -> None:
    free = load(models, "transformers-whisper").transcribe(noises[:1], DecodeOptions())[0].language
    others = frozenset(models["transformers-whisper"].languages or ()) - {free}
    bound = {name: model.model_copy(update={"languages": others}) for name, model in models.items()}

    for engine in ENGINES:
        (heard,) = load(bound, engine).transcribe(noises[:1], DecodeOptions(task="detect"))
        assert heard.language in others
        assert heard.language_probability is not None
        assert heard.language_probability < 0.5


def test_given_language_has_no_probability(whisper: Whisper, noises: list[Samples]) -> None:
    (heard,) = whisper.transcribe(noises[:1], DecodeOptions(language="fr"))

    assert (heard.language, heard.language_probability) == ("fr", None)


def test_items_of_all_languages_and_tasks_share_a_call_and_get_what_they_get_alone(
    whisper: Whisper, noises: list[Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        DecodeOptions(language="fr", beam_size=1),
        DecodeOptions(language="de", task="translate", beam_size=1),
        DecodeOptions(beam_size=1),
        DecodeOptions(language="fr", prompt="w001 w002", beam_size=1),
        DecodeOptions(language="de", prompt="w003 w004", beam_size=1),
    ]
    alone = [whisper.transcribe(noises[1:], each)[0] for each in options]
    sizes = []
    encode = whisper._encode

    def noted(features: Sequence[object]) -> object:
        sizes.append(len(features))
        return encode(features)

    monkeypatch.setattr(whisper, "_encode", noted)
    batcher = Batcher(whisper, max_batch=5, max_wait_ms=60_000)
    begin_with(batcher, len(options))

    heard = [future.result(60) for future in [batcher.submit(noises[1], o) for o in options]]
    batcher.close()

    assert sorted(sizes) == [2, 3]
    assert texts([each.hypothesis for each in heard]) == texts(alone)
    assert [each.hypothesis.language for each in heard] == [each.language for each in alone]


@pytest.mark.parametrize(
    "change", [{"task": "translate"}, {"prompt": "w001 w002"}, {"hotwords": "w003"}]
)
def test_task_prompt_and_hotwords_reach_the_decoder(
    whisper: Whisper, noises: list[Samples], change: dict[str, str]
) -> None:
    plain = whisper.transcribe(noises, DecodeOptions(language="fr", beam_size=1))

    changed = whisper.transcribe(noises, DecodeOptions(language="fr", beam_size=1, **change))

    assert texts(changed) != texts(plain)
    assert [hypothesis.language for hypothesis in changed] == ["fr"] * len(noises)


def test_language_without_a_token_is_a_clear_error(whisper: Whisper, noises: list[Samples]) -> None:
    with pytest.raises(ModelError, match="no language 'xx'"):
        whisper.transcribe(noises[:1], DecodeOptions(language="xx"))


def test_only_the_item_that_loops_is_decoded_again(
    whisper: Whisper, noises: list[Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[float, int]] = []
    answer = whisper._answer

    def loop_second(
        encoded: object, prompts: Sequence[Sequence[int]], temperature: float, beam_size: int
    ) -> list[Answer]:
        asked.append((temperature, len(prompts)))
        answers = answer(encoded, prompts, temperature, beam_size)
        # What random weights say is left out: what matters is who is asked, and how often.
        loops = temperature < TEMPERATURES[2]
        said = [[300, 301, 302]] * (len(answers) - loops) + [[300, 301] * 40] * loops
        return [
            each._replace(avg_logprob=-0.1, tokens=tokens)
            for each, tokens in zip(answers, said, strict=True)
        ]

    monkeypatch.setattr(whisper, "_answer", loop_second)

    heard = whisper.transcribe(noises, DecodeOptions(language="en", beam_size=1))

    assert asked == [(0.0, 2), (0.2, 1), (0.4, 1)]
    assert all(hypothesis.words for hypothesis in heard)
    assert not any(hypothesis.loop_suspected for hypothesis in heard)


@pytest.mark.parametrize("name", ENGINES)
def test_a_call_that_begins_alone_has_all_processors_and_hears_the_same(
    models: dict[str, Model], noises: list[Samples], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(processors, "n_processors", lambda: 2)
    engine, options = load(models, name), DecodeOptions(language="en")
    threads: list[int] = []
    meeting = threading.Barrier(1)
    answer = engine._answer

    def noted(*arguments: Any) -> list[Answer]:
        meeting.wait(60)
        if isinstance(engine, FasterWhisperEngine):
            threads.append(2 if engine._model is engine._of_lone_calls else 1)
        else:
            threads.append(torch.get_num_threads())
        return answer(*arguments)

    monkeypatch.setattr(engine, "_answer", noted)

    alone = engine.transcribe(noises, options)
    meeting = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: engine.transcribe(noises, options), range(2)))

    assert threads[0] == 2
    assert sorted(threads[1:]) == [1, 2]
    assert texts(both[0]) == texts(both[1]) == texts(alone)


def test_large_weights_are_not_loaded_twice(tmp_path: Path) -> None:
    def is_loaded_twice(n_bytes: int, shares: Shares) -> bool:
        with (tmp_path / "model.bin").open("wb") as file:
            file.truncate(n_bytes)
        return faster_whisper._is_loaded_twice(tmp_path, shares)

    assert is_loaded_twice(MOST_BYTES_TWICE, Shares(2, 1, 2))
    assert not is_loaded_twice(MOST_BYTES_TWICE + 1, Shares(2, 1, 2))
    assert not is_loaded_twice(1, Shares(1, 1, 1))


@pytest.mark.parametrize("engine", ENGINES)
def test_unknown_dtype_is_a_clear_error(models: dict[str, Model], engine: str) -> None:
    with pytest.raises(ModelError, match="float99"):
        load_engine(models[engine], device="cpu", dtype="float99")


@pytest.mark.parametrize(
    ("message", "raised"),
    [("CUDA failed with error out of memory", DeviceOutOfMemory), ("broken", EngineFailed)],
)
def test_failures_of_the_library_are_told_apart(
    whispers: dict[str, Whisper],
    noises: list[Samples],
    monkeypatch: pytest.MonkeyPatch,
    message: str,
    raised: type[LonghandError],
) -> None:
    import torch

    errors = {
        "faster-whisper": RuntimeError(message),
        "transformers-whisper": torch.OutOfMemoryError(message)
        if raised is DeviceOutOfMemory
        else RuntimeError(message),
    }
    for name, whisper in whispers.items():

        def fail(features: object, error: Exception = errors[name]) -> None:
            raise error

        monkeypatch.setattr(whisper, "_encode", fail)
        with pytest.raises(raised):
            whisper.transcribe(noises[:1], DecodeOptions(language="en"))
