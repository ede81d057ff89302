"""What both Whisper engines must do beyond what every engine must, over the same weights."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from randomctc import catalogue_entry
from randomwhisper import convert_to_ctranslate2

from shared.infra.errors import DeviceOutOfMemory, EngineFailed, LonghandError, ModelError
from shared.models.catalogue import Model
from shared.speech.audio import Samples
from shared.speech.chunks import SAMPLE_RATE, Hypothesis
from worker.batching.batcher import Batcher
from worker.engines import load_engine, processors
from worker.engines.processors import Shares
from worker.engines.protocol import DecodeOptions
from worker.engines.whisper import faster_whisper
from worker.engines.whisper.answer_scores import AnswerScores
from worker.engines.whisper.fallback import TEMPERATURES
from worker.engines.whisper.faster_whisper import MOST_BYTES_TWICE, FasterWhisperEngine
from worker.engines.whisper.gpu_batch import LARGEST_GPU_BATCH, largest_batch
from worker.engines.whisper.transformers_whisper import TransformersWhisperEngine
from worker.engines.whisper.vocabulary import MAX_POSITIONS
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


@pytest.fixture(scope="module")
def noises() -> list[Samples]:
    rng = np.random.default_rng(1)
    lengths = (SAMPLE_RATE, 7 * SAMPLE_RATE)
    return [rng.normal(0, 0.1, n).astype(np.float32) for n in lengths]


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
    batcher = Batcher(whisper, max_batch=5, max_wait_ms=1_000)

    heard = [future.result(60) for future in [batcher.submit(noises[1], o) for o in options]]
    batcher.close()

    assert sorted(sizes) == [2, 3]
    assert texts([each.hypothesis for each in heard]) == texts(alone)
    assert [each.hypothesis.language for each in heard] == [each.language for each in alone]


@pytest.mark.parametrize("beam_size", [1, 3])
def test_scores_that_are_noted_on_the_way_are_those_of_the_finished_answers(
    models: dict[str, Model], noises: list[Samples], beam_size: int
) -> None:
    import torch

    engine = load(models, "transformers-whisper")
    assert isinstance(engine, TransformersWhisperEngine)
    with torch.inference_mode():
        encoded = engine._encode([engine._features_of(noise) for noise in noises])
        given = torch.full((2, 1), engine._vocabulary.start)
        rules = engine._next_token.after(1)
        scoring = AnswerScores(rules, 1, engine._vocabulary.end, beam_size)

        made = engine._generate(encoded, given, [scoring], num_beams=beam_size)

        scores = scoring.means(made.sequences, getattr(made, "beam_indices", None))
        read = engine._read(made.sequences, encoded.hidden, engine._new_cache(encoded))
        logits = engine._net.proj_out(read).float()
        for item, tokens in enumerate(made.sequences):
            n = 1 + int((tokens[1:] != engine._vocabulary.end).sum()) + 1
            expected = [
                rules(tokens[None, :at], logits[item, None, at - 1].clone()).log_softmax(-1)[
                    0, tokens[at]
                ]
                for at in range(1, n)
            ]
            assert float(scores[item]) == pytest.approx(float(sum(expected)) / (n - 1), abs=1e-3)


@pytest.mark.parametrize(
    "search", [{"num_beams": 3}, {"do_sample": True, "num_return_sequences": 3}]
)
def test_answers_that_share_their_items_keys_are_those_of_the_librarys_own_cache(
    models: dict[str, Model], noises: list[Samples], search: dict[str, int]
) -> None:
    import torch
    from transformers import DynamicCache, EncoderDecoderCache

    engine = load(models, "transformers-whisper")
    assert isinstance(engine, TransformersWhisperEngine)

    def answers() -> torch.Tensor:
        torch.manual_seed(0)
        sequences: torch.Tensor = engine._generate(encoded, given, [rules], **search).sequences
        return sequences

    with torch.inference_mode():
        encoded = engine._encode([engine._features_of(noise) for noise in noises])
        given = torch.full((2, 1), engine._vocabulary.start)
        rules = engine._next_token.after(1)
        shared = answers()
        own = EncoderDecoderCache(DynamicCache(), DynamicCache())
        for i, layer in enumerate(encoded.cross.layers):
            keys, values = (each.repeat_interleave(3, 0) for each in (layer.keys, layer.values))
            own.cross_attention_cache.update(keys, values, i)
            own.is_updated[i] = True
        engine._new_cache = lambda _: own  # type: ignore[method-assign]

        assert shared.tolist() == answers().tolist()


def test_keys_of_an_item_are_computed_once_for_all_its_beams_and_its_word_times(
    models: dict[str, Model], noises: list[Samples]
) -> None:
    engine = load(models, "transformers-whisper")
    assert isinstance(engine, TransformersWhisperEngine)
    rows: list[int] = []
    attention = engine._net.model.decoder.layers[0].encoder_attn
    attention.k_proj.register_forward_hook(lambda _module, inputs, _: rows.append(len(inputs[0])))

    heard = engine.transcribe(noises, DecodeOptions(language="en", beam_size=3))

    assert rows == [len(noises)]
    assert all(hypothesis.words for hypothesis in heard)


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


def test_bfloat16_works_on_the_processor(models: dict[str, Model], noises: list[Samples]) -> None:
    engine = load_engine(models["transformers-whisper"], device="cpu", dtype="bfloat16")

    assert engine.dtype == "bfloat16"
    assert engine.transcribe(noises[:1], DecodeOptions(language="en"))[0].words


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


def test_half_precision_on_the_processor_is_a_clear_error(models: dict[str, Model]) -> None:
    with pytest.raises(ModelError, match="cannot compute in float16 on cpu"):
        load_engine(models["transformers-whisper"], device="cpu", dtype="float16")


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


def test_weights_that_lack_a_tensor_are_refused(models: dict[str, Model], tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    whole = models["transformers-whisper"].folder
    assert whole is not None
    for file in whole.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.decoder.layers.1.fc2.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(ModelError, match=r"lack model\.decoder\.layers\.1\.fc2\.weight"):
        load_engine(catalogue_entry("x", tmp_path, "transformers-whisper"), device="cpu")


def test_batch_on_a_gpu_is_what_fits() -> None:
    assert largest_batch(room_bytes=1_000, fixed_bytes=100, item_bytes=100) == 9
    assert largest_batch(room_bytes=10**9, fixed_bytes=0, item_bytes=1) == LARGEST_GPU_BATCH
    assert largest_batch(room_bytes=50, fixed_bytes=100, item_bytes=100) == 1


def test_batch_is_sized_by_the_peaks_of_one_and_two_windows_with_a_full_decoder(
    models: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    engine = load(models, "transformers-whisper")
    assert isinstance(engine, TransformersWhisperEngine)
    peaks = iter([130, 190])  # bytes: 70 whatever the batch, and 60 for each window
    for name, give in {
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda: None,
        "memory_allocated": lambda: 0,
        "max_memory_allocated": lambda: next(peaks),
        "mem_get_info": lambda: (1_000, 2_000),
    }.items():
        monkeypatch.setattr(torch.cuda, name, give)
    shapes = []
    generate = engine._generate

    def noted(*args: object, **search: object) -> object:
        generated = generate(*args, **search)
        shapes.append(tuple(generated.sequences.shape))
        return generated

    monkeypatch.setattr(engine, "_generate", noted)

    # Four fifths of 1,000 bytes, less 70, hold twelve times 60.
    assert engine._fit_batch(beam_size=1) == 12
    assert shapes == [(1, MAX_POSITIONS), (2, MAX_POSITIONS)]


def test_fallback_on_a_gpu_decodes_no_more_answers_at_once_than_fit(
    models: dict[str, Model], noises: list[Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(models, "transformers-whisper")
    assert isinstance(engine, TransformersWhisperEngine)
    at_once = []
    decode = engine._answer_at_once

    def noted(
        encoded: object, prompts: Sequence[Sequence[int]], temperature: float, beam_size: int
    ) -> list[Answer]:
        at_once.append((temperature, len(prompts)))
        # Guesses are decoded again, at the next temperature.
        return [
            answer._replace(avg_logprob=-2.0 if temperature == 0 else -0.1, tokens=[300, 301])
            for answer in decode(encoded, prompts, temperature, beam_size)
        ]

    monkeypatch.setattr(engine, "_answer_at_once", noted)
    engine._answers_at_once = 2

    heard = engine.transcribe(noises, DecodeOptions(language="en", beam_size=1))

    assert at_once == [(0.0, 2), (0.2, 1), (0.2, 1)]
    assert all(hypothesis.words for hypothesis in heard)
