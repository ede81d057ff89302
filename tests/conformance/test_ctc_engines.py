"""What is particular to networks with CTC: strides, padding, and what is refused at loading."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException
from safetensors.torch import load_file, save_file

from harness.engines.random_ctc import WRITERS, catalogue_entry
from harness.engines.trained_models import FRAMEWISE, MODELS, catalogue, heldout, recite
from shared.infra.errors import DeviceOutOfMemory, EngineFailed, LonghandError, ModelError
from shared.models.catalogue import Model
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from worker.engines import load_engine, processors
from worker.engines.ctc import transformers_ctc
from worker.engines.ctc.onnx_ctc import OnnxCtcEngine
from worker.engines.ctc.transformers_ctc import TransformersCtcEngine
from worker.engines.protocol import DecodeOptions, Prepared

OPTIONS = DecodeOptions(language="en")
STRIDES = {"random-w2v-bert": 640, "random-wav2vec2-base": 320, "random-wav2vec2-large": 320}
"""By the architecture: 20 ms, and twice that behind an adapter."""


def noise(n_samples: int, seed: int) -> Samples:
    return np.random.default_rng(seed).normal(0, 0.1, n_samples).astype(np.float32)


@pytest.fixture
def copied(random_ctcs: dict[str, Model], tmp_path: Path) -> Path:
    """A folder with the files of a network, to be spoiled."""
    folder = random_ctcs["random-w2v-bert"].folder
    assert folder is not None
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.mark.parametrize("model_id", WRITERS)
def test_word_times_are_multiples_of_the_networks_own_stride(
    random_ctcs: dict[str, Model], model_id: str
) -> None:
    engine = load_engine(random_ctcs[model_id], device="cpu")

    (heard,) = engine.transcribe([noise(4 * SAMPLE_RATE, seed=1)], OPTIONS)

    times = np.array([time for word in heard.words for time in (word.start, word.end)])
    # Garbage lasts from the first frame to the last: all of the audio is covered, no more.
    assert np.gcd.reduce(times[times < 4 * SAMPLE_RATE]) == STRIDES[model_id]
    assert 4 * SAMPLE_RATE - times.max() <= 4 * STRIDES[model_id]


@pytest.mark.parametrize("model_id", WRITERS)
@pytest.mark.parametrize("n_samples", [1_600, 16_000, 16_161, 30_007])
def test_padding_is_not_heard(random_ctcs: dict[str, Model], model_id: str, n_samples: int) -> None:
    engine = load_engine(random_ctcs[model_id], device="cpu", dtype="float32")
    item = noise(n_samples, seed=2)

    (alone,) = engine.transcribe([item], OPTIONS)
    padded, _ = engine.transcribe([item, noise(5 * SAMPLE_RATE, seed=3)], OPTIONS)

    assert [(word.text, word.start, word.end) for word in padded.words] == [
        (word.text, word.start, word.end) for word in alone.words
    ]
    assert [word.confidence for word in padded.words] == pytest.approx(
        [word.confidence for word in alone.words], abs=1e-4
    )


def test_speech_looks_the_same_beside_digital_silence_as_beside_a_quiet_recording() -> None:
    engine = load_engine(catalogue().get("tiny-w2v-bert"), device="cpu")
    assert isinstance(engine, TransformersCtcEngine)
    seen: list[torch.Tensor] = []

    def see(_network: torch.nn.Module, _: object, inputs: dict[str, torch.Tensor]) -> None:
        seen.append(inputs["input_features"])

    engine._model.register_forward_pre_hook(see, with_kwargs=True)
    speech = heldout()[0].samples
    quiet = np.random.default_rng(5).integers(-1, 2, 4 * SAMPLE_RATE).astype(np.float32) / 32768

    for beside in (np.zeros_like(quiet), quiet):
        engine.transcribe([np.concatenate([speech, beside])], OPTIONS)

    of_silent, of_quiet = (float(item[0, : len(speech) // 320].std()) for item in seen)
    # Undithered, speech beside silence varies three fifths as much.
    assert of_silent == pytest.approx(of_quiet, rel=0.1)


@pytest.mark.parametrize("model_id", FRAMEWISE)
@pytest.mark.parametrize("offset_samples", [0, 123, 4_321])
def test_word_that_two_chunks_hear_has_the_same_times_in_both_to_40_ms(
    model_id: str, offset_samples: int
) -> None:
    engine = load_engine(catalogue().get(model_id), device="cpu")
    both, (_, second_start) = recite(heldout()[2:4])
    # The overlap is the second sentence and as much silence as our chunks have on their sides.
    cut = second_start - SAMPLE_RATE // 2 + offset_samples

    first, second = engine.transcribe([both.samples, both.samples[cut:]], OPTIONS)

    shifts = [
        (cut + late.start - early.start, cut + late.end - early.end)
        for early in first.words
        for late in second.words
        if early.text == late.text and abs(cut + late.start - early.start) < SAMPLE_RATE // 2
    ]
    # What is before the cut also tells a network what is after it: a word may be heard otherwise.
    assert len(shifts) >= len(second.words) - 1 >= 3
    assert np.abs(shifts).max() <= 640


def test_bfloat16_is_computed_on_a_processor_if_asked(random_ctcs: dict[str, Model]) -> None:
    engine = load_engine(random_ctcs["random-w2v-bert"], device="cpu", dtype="bfloat16")

    assert engine.dtype == "bfloat16"
    assert engine.transcribe([noise(16_000, seed=4)], OPTIONS)[0].words


@pytest.mark.parametrize(
    ("model_id", "has_amx", "expected"),
    [
        ("random-w2v-bert", True, "bfloat16"),
        ("random-w2v-bert", False, "float32"),
        ("random-wav2vec2-large", True, "float32"),
    ],
)
def test_w2v_bert_computes_in_bfloat16_where_processors_multiply_it(
    random_ctcs: dict[str, Model],
    model_id: str,
    has_amx: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transformers_ctc, "multiplies_bfloat16", lambda: has_amx)

    assert load_engine(random_ctcs[model_id], device="cpu").dtype == expected


def test_in_bfloat16_a_w2v_bert_hears_the_same_words_as_in_float32() -> None:
    model, sentences = catalogue().get("tiny-w2v-bert"), [each.samples for each in heldout()]
    texts = [
        [
            [word.text for word in heard.words]
            for heard in load_engine(model, device="cpu", dtype=dtype).transcribe(
                sentences, OPTIONS
            )
        ]
        for dtype in ("float32", "bfloat16")
    ]

    assert texts[0] == texts[1]


def test_a_call_that_begins_alone_has_all_processors(
    random_ctcs: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors, "n_processors", lambda: 2)
    engine = load_engine(random_ctcs["random-w2v-bert"], device="cpu")
    assert isinstance(engine, TransformersCtcEngine)
    threads: list[int] = []
    engine._model.register_forward_hook(lambda *_: threads.append(torch.get_num_threads()))
    item = engine.prepare(noise(16_000, seed=2), OPTIONS)
    assert isinstance(item, Prepared)

    engine.infer([item])
    with engine._streams.call():
        engine.infer([item])
    engine.rehearsal()(1)

    assert threads == [2, 1, 1]


@pytest.mark.parametrize("dtype", ["float16", "int8", "double"])
def test_dtype_that_the_device_cannot_do_is_refused(
    random_ctcs: dict[str, Model], dtype: str
) -> None:
    with pytest.raises(ModelError, match=f"cannot compute in {dtype} on cpu"):
        load_engine(random_ctcs["random-w2v-bert"], device="cpu", dtype=dtype)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_that_is_not_there_is_refused(random_ctcs: dict[str, Model]) -> None:
    with pytest.raises(ModelError, match="finds no GPU"):
        load_engine(random_ctcs["random-w2v-bert"], device="cuda")
    with pytest.raises(ModelError, match="cannot use a GPU"):
        load_engine(catalogue().get("tiny-conformer"), device="cuda")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (torch.OutOfMemoryError("no room"), DeviceOutOfMemory),
        (RuntimeError("an illegal memory access"), EngineFailed),
    ],
)
def test_full_device_is_told_from_a_broken_one_by_torch(
    random_ctcs: dict[str, Model], raised: RuntimeError, expected: type[LonghandError]
) -> None:
    engine = load_engine(random_ctcs["random-w2v-bert"], device="cpu")
    assert isinstance(engine, TransformersCtcEngine)

    def fail(*_: object) -> None:
        raise raised

    engine._model.register_forward_pre_hook(fail)

    with pytest.raises(expected):
        engine.transcribe([noise(16_000, seed=4)], OPTIONS)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RuntimeException("Failed to allocate memory for requested buffer"), DeviceOutOfMemory),
        (Fail("CUDNN failure 4"), EngineFailed),
    ],
)
def test_full_device_is_told_from_a_broken_one_by_onnx_runtime(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, expected: type[LonghandError]
) -> None:
    engine = load_engine(catalogue().get("tiny-conformer"), device="cpu")
    assert isinstance(engine, OnnxCtcEngine)

    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(engine._recognizer, "recognize", fail)

    with pytest.raises(expected):
        engine.transcribe([noise(16_000, seed=4)], OPTIONS)


def test_weights_other_than_pinned_are_refused_with_both_digests(copied: Path) -> None:
    model = catalogue_entry("mine", copied)
    (copied / "model.safetensors").write_bytes(b"other")

    with pytest.raises(ModelError, match=f"are sha256:[0-9a-f]+, .* pins {model.revision}"):
        load_engine(model, device="cpu")


def test_damaged_weights_are_refused(copied: Path) -> None:
    (copied / "model.safetensors").write_bytes(b"damaged")

    with pytest.raises(ModelError, match="'mine' cannot be loaded"):
        load_engine(catalogue_entry("mine", copied), device="cpu")


def test_network_without_its_last_layer_is_refused(copied: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    kept = {name: t for name, t in tensors.items() if not name.startswith("lm_head")}
    save_file(kept, copied / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(ModelError, match=r"lack lm_head\.bias, lm_head\.weight"):
        load_engine(catalogue_entry("mine", copied), device="cpu")


def test_pickled_weights_are_not_loaded(copied: Path) -> None:
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    model = catalogue_entry("mine", copied)
    (copied / "model.safetensors").unlink()

    with pytest.raises(ModelError, match=r"has no model\.safetensors or model\.safetensors\.index"):
        load_engine(model, device="cpu")


def test_code_in_a_models_folder_is_not_run(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCTC": "network.Network"}
    (copied / "config.json").write_text(json.dumps(config))
    (copied / "network.py").write_text("raise SystemExit('code of the model was run')")

    engine = load_engine(catalogue_entry("mine", copied), device="cpu")

    assert engine.transcribe([noise(16_000, seed=4)], OPTIONS)[0].words


@pytest.mark.parametrize("config", ["{}", '{"subsampling_factor": "4"}', "not JSON"])
def test_conformer_that_does_not_state_its_frame_rate_is_refused(
    tmp_path: Path, config: str
) -> None:
    folder = shutil.copytree(MODELS / "conformer", tmp_path / "copy")
    (folder / "config.json").write_text(config)

    with pytest.raises(ModelError, match="subsampling_factor"):
        load_engine(catalogue_entry("mine", folder, "onnx-ctc"), device="cpu")


def test_damaged_conformer_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(MODELS / "conformer", tmp_path / "copy")
    (folder / "model.onnx").write_bytes(b"damaged")

    with pytest.raises(ModelError, match="'mine' cannot be loaded"):
        load_engine(catalogue_entry("mine", folder, "onnx-ctc"), device="cpu")
