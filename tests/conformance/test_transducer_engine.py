"""What is particular to transducers: both kinds, exports, batches, and what is refused."""

import json
import math
import shutil
from pathlib import Path

import jiwer
import numpy as np
import onnx_asr
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

from bench.audio import music
from harness.engines.random_ctc import catalogue_entry
from harness.engines.trained_models import MODELS, MOST_WORD_ERRORS, catalogue, heldout, recite
from shared.infra.errors import DeviceOutOfMemory, EngineFailed, LonghandError, ModelError
from shared.models.catalogue import Model
from shared.models.weight_files import digest, present
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from worker.engines import load_engine
from worker.engines.protocol import DecodeOptions, Prepared
from worker.engines.transducer.greedy import Token, decode
from worker.engines.transducer.onnx_transducer import OnnxTransducerEngine, _Features, _Output

ENGINE = "onnx-transducer"
OPTIONS = DecodeOptions(language="en")


def noise(n_samples: int, level: float = 0.1) -> Samples:
    return np.random.default_rng(4).normal(0, level, n_samples).astype(np.float32)


def loaded(model: Model | None = None) -> OnnxTransducerEngine:
    engine = load_engine(model or catalogue().get("tiny-transducer"), device="cpu")
    assert isinstance(engine, OnnxTransducerEngine)
    return engine


def _prepared(engine: OnnxTransducerEngine, samples: Samples) -> Prepared[_Features]:
    item = engine.prepare(samples, OPTIONS)
    assert isinstance(item, Prepared)
    return item


_JOINT_AXES = {
    "items": [("decoder_joint-model", ("encoder_outputs", (0,)))],
    "frames": [("decoder_joint-model", ("encoder_outputs", (2,)))],
    "items and frames": [("decoder_joint-model", ("encoder_outputs", (0, 2)))],
}


def _fix(path: Path, name: str, axes: tuple[int, ...]) -> None:
    """Have a graph declare that an input's axes have a length of 1."""
    (given,) = (
        each for each in onnxruntime.InferenceSession(path).get_inputs() if each.name == name
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(path.with_suffix(".fixed"))
    for axis in axes:
        options.add_free_dimension_override_by_name(given.shape[axis], 1)
    onnxruntime.InferenceSession(path, options)
    path.with_suffix(".fixed").rename(path)


@pytest.fixture(scope="module")
def engine() -> OnnxTransducerEngine:
    return loaded()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with the files of the network, to be spoiled."""
    return Path(shutil.copytree(MODELS / "transducer", tmp_path / "copy"))


def configure(folder: Path, **changes: object) -> Model:
    """Change the configuration; return the folder's catalogue entry."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return catalogue_entry("mine", folder, ENGINE)


def test_a_batch_has_the_librarys_tokens_one_by_one_with_their_frames_and_posteriors(
    engine: OnnxTransducerEngine,
) -> None:
    library = onnx_asr.load_model(
        "nemo-conformer-tdt", MODELS / "transducer", providers=["CPUExecutionProvider"]
    ).with_timestamps()
    recital, _ = recite(heldout()[:4])
    said = [*(each.samples for each in heldout()), recital.samples, noise(30_000)]

    together = engine.infer([_prepared(engine, samples) for samples in said])

    for samples, output in zip(said, together, strict=True):
        assert isinstance(output, _Output)
        expected = library.recognize(samples, sample_rate=SAMPLE_RATE)
        tokens = output.tokens
        assert [engine._texts[token.symbol] for token in tokens] == expected.tokens
        assert [token.frame * 0.04 for token in tokens] == pytest.approx(expected.timestamps)
        log_probs = [token.log_prob for token in tokens]
        assert log_probs == pytest.approx(expected.logprobs, abs=1e-3)


@pytest.mark.parametrize("static", ["items", "frames", "items and frames"])
def test_a_graph_that_takes_one_item_or_one_frame_gets_one_at_a_time(
    static: str, copied: Path, engine: OnnxTransducerEngine
) -> None:
    for name, axes in (("encoder-model", ("audio_signal", (0,))), *_JOINT_AXES[static]):
        _fix(copied / f"{name}.onnx", *axes)
    fixed = loaded(catalogue_entry("mine", copied, ENGINE))
    sentences = [each.samples for each in heldout()[:4]]

    heard = fixed.transcribe(sentences, OPTIONS)

    assert (fixed._joint.most_items, fixed._joint.n_ahead) == (
        1 if "items" in static else None,
        1 if "frames" in static else 4,
    )
    assert [each.words for each in heard] == [
        each.words for each in engine.transcribe(sentences, OPTIONS)
    ]


def test_the_network_hears_the_sentences_as_an_rnnt_too(copied: Path) -> None:
    sentences = heldout()
    rnnt = loaded(configure(copied, model_type="nemo-conformer-rnnt"))

    heard = rnnt.transcribe([each.samples for each in sentences], OPTIONS)

    texts = [" ".join(word.text.strip() for word in each.words) for each in heard]
    assert jiwer.wer([each.text for each in sentences], texts) <= MOST_WORD_ERRORS, texts


def test_an_int8_entry_loads_the_int8_files(copied: Path) -> None:
    for path in copied.glob("*.onnx"):
        path.rename(path.with_suffix(".int8.onnx"))
    model = catalogue_entry("mine", MODELS / "transducer", ENGINE).model_copy(
        update={
            "source": f"file:{copied}",
            "revision": digest(copied, present(f"{ENGINE} int8", copied)),
            "quantization": "int8",
        }
    )

    int8 = loaded(model)

    assert int8.dtype == "int8_float32"
    assert int8.transcribe([heldout()[0].samples], OPTIONS)[0].words


def test_items_that_are_encoded_together_have_the_tokens_that_they_have_alone(
    engine: OnnxTransducerEngine,
) -> None:
    items = [_prepared(engine, each.samples).input for each in heldout()[:3]]

    together = decode(engine._joint, engine._encode(items), engine._rules, 4)

    for item, tokens in zip(items, together, strict=True):
        (alone,) = decode(engine._joint, engine._encode([item]), engine._rules, 4)
        assert [token[:3] for token in tokens] == [token[:3] for token in alone]


@pytest.mark.parametrize("level", [0.001, 0.01, 0.1])
def test_noise_has_no_words(engine: OnnxTransducerEngine, level: float) -> None:
    (heard,) = engine.transcribe([noise(12 * SAMPLE_RATE, level)], OPTIONS)

    assert heard.words == ()


@pytest.mark.parametrize("seed", range(4))
def test_music_has_no_words(engine: OnnxTransducerEngine, seed: int) -> None:
    pcm = np.concatenate([*music(12.0, -20, seed)])

    (heard,) = engine.transcribe([pcm.astype(np.float32) / 32768], OPTIONS)

    assert heard.words == ()


def test_a_word_lasts_as_long_as_its_tokens_go_on_and_is_as_sure_as_they_are_on_average(
    engine: OnnxTransducerEngine,
) -> None:
    ids = {text: symbol for symbol, text in enumerate(engine._texts)}
    assert engine._texts[0] == ""  # <unk>
    tokens = [
        Token(ids[" "], 2, 0, math.log(0.9)),
        Token(ids["g"], 2, 3, math.log(0.5)),
        Token(ids["o"], 5, 0, math.log(0.8)),
        Token(ids[" s"], 5, 4, math.log(0.7)),
        Token(0, 9, 1, math.log(0.1)),
    ]

    go, s = engine.finish(_Output(tokens, 16_000, "en")).words

    assert (go.text, go.start, go.end) == (" go", 2 * 640, 5 * 640)
    assert go.confidence == pytest.approx((0.5 * 0.8) ** 0.5)
    assert (s.text, s.start, s.end) == (" s", 5 * 640, 9 * 640)
    assert s.confidence == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RuntimeException("Failed to allocate memory for requested buffer"), DeviceOutOfMemory),
        (Fail("CUDNN failure 4"), EngineFailed),
    ],
)
def test_full_device_is_told_from_a_broken_one(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, expected: type[LonghandError]
) -> None:
    engine = loaded()

    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(engine, "_encode", fail)

    with pytest.raises(expected):
        engine.transcribe([noise(16_000)], OPTIONS)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"subsampling_factor": "4"}, "subsampling_factor is '4'"),
        ({"model_type": "nemo-conformer-aed"}, "model_type is 'nemo-conformer-aed'"),
        ({"features_size": 81}, "'mine' cannot be loaded"),
    ],
)
def test_network_that_is_no_transducer_that_is_known_is_refused(
    copied: Path, changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ModelError, match=complaint):
        loaded(configure(copied, **changes))


def test_joint_that_is_no_joint_is_refused(copied: Path) -> None:
    shutil.copy(copied / "encoder-model.onnx", copied / "decoder_joint-model.onnx")

    with pytest.raises(ModelError, match="'mine' cannot be loaded"):
        loaded(catalogue_entry("mine", copied, ENGINE))


def test_network_with_fewer_classes_than_the_vocabulary_is_refused(copied: Path) -> None:
    lines = "".join(f"{i} {i}\n" for i in range(200))
    (copied / "vocab.txt").write_text(f"{lines}<blk> 200\n")

    with pytest.raises(ModelError, match="198 logits, but 201 tokens"):
        loaded(catalogue_entry("mine", copied, ENGINE))


@pytest.mark.parametrize("vocabulary", ["a 0\nb 1\n", "a 0\n<blk> 2\n", "<blk>\n"])
def test_vocabulary_without_a_blank_or_with_gaps_is_refused(copied: Path, vocabulary: str) -> None:
    (copied / "vocab.txt").write_text(vocabulary)

    with pytest.raises(ModelError, match="'mine' cannot be loaded"):
        loaded(catalogue_entry("mine", copied, ENGINE))
