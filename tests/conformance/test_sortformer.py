"""Sortformer: a graph with the inputs and outputs of NeMo's export, and the real CAM++ beside it.

The stand-in for NVIDIA's network hears bands of noise: each quarter of the mel bands is a speaker.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx_asr.preprocessors.numpy_preprocessor import NemoPreprocessorNumpy

from bench.pipeline import as_float, read
from harness.engines.real_models import diarization_networks
from shared.infra import onnx_format
from shared.infra.errors import ModelError
from shared.infra.onnx_format import Graph
from shared.models.catalogue import load_catalogue
from shared.models.pinning import find_newest
from shared.models.pins import write_pin
from shared.models.weights import Weights
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.speakers.turns import SpeakerHints
from worker.diarization import load_diarizer
from worker.diarization.campplus import Campplus
from worker.diarization.hearing import window_offsets
from worker.diarization.nemo_features import nemo_features
from worker.diarization.protocol import Activities, Diarization, Diarizer
from worker.diarization.sortformer import (
    MAX_VOICE_FRAMES,
    N_LOCAL,
    NETWORK_FRAME_SAMPLES,
    PREDICTIONS,
    WINDOW_SAMPLES,
    WINDOW_STEP_SAMPLES,
    Sortformer,
    linked,
)
from worker.steps.diarizers import cluster_of

N_MELS, N_FEATURES = 128, 512
LOUD = -9.0
"""Of the mean log energy of a quarter of the bands; noise in it is louder, and silence is not."""
CATALOGUE = """
[models.sortformer]
kind = "diarization"
description = "Tells speakers apart."
engine = "sortformer"
source = "file:weights"
revision = "unpinned"
size_bytes = 1
"""
SAMPLES = Path(__file__).parents[2] / "samples"

Talk = tuple[int, float, float]
"""Who, from when to when, in seconds."""


def test_features_are_nemos() -> None:
    audio = np.random.default_rng(1).normal(0, 0.1, 3 * SAMPLE_RATE + 77).astype(np.float32)

    for n_mels in (80, 128):
        found = nemo_features(audio, n_mels)

        # onnx-asr's are divided by their deviation.
        theirs = NemoPreprocessorNumpy(f"nemo{n_mels}")
        (expected,), (length,) = theirs(audio[np.newaxis], np.array([len(audio)]))
        assert len(found) == length
        normalized = (found - found.mean(axis=0)) / (found.std(axis=0, ddof=1) + 1e-5)
        np.testing.assert_allclose(normalized, expected.T[:length], atol=2e-3)
    assert nemo_features(np.zeros(320, np.float32), 80)[0, 0] == pytest.approx(-24 * np.log(2))


def streamed_graph(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return the stand-in's ONNX file, with all inputs of NeMo's export."""
    graph = Graph("stand-in")
    value = graph.add("AveragePool", "chunk", kernel_shape=[32], strides=[32])
    value = graph.add("Transpose", value, perm=[0, 2, 1])
    value = graph.add("AveragePool", value, kernel_shape=[8], strides=[8], ceil_mode=1)
    value = graph.add("Transpose", value, perm=[0, 2, 1])
    value = graph.add("Sigmoid", graph.add("Sub", value, graph.constant(LOUD)))
    inputs: dict[str, Sequence[onnx_format.Dimension]] = {}
    for name, n_features in (("chunk", N_MELS), ("spkcache", N_FEATURES), ("fifo", N_FEATURES)):
        inputs[name] = ("n_items", f"n_{name}", n_features)
        inputs[f"{name}_lengths"] = ("n_items",)
    written = onnx_format._value

    def with_lengths(name: str, shape: Sequence[onnx_format.Dimension]) -> bytes:
        content = written(name, shape)
        is_whole = name.endswith("_lengths")
        return content.replace(b"\x08\x01", b"\x08\x07", 1) if is_whole else content

    with monkeypatch.context() as patch:
        patch.setattr(onnx_format, "_value", with_lengths)
        return graph.to_bytes(inputs, {PREDICTIONS: (value, ("n_items", "n_frames", N_LOCAL))})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sortformer")
    (folder / "weights").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        (folder / "weights/sortformer.onnx").write_bytes(streamed_graph(patch))
    shutil.copy(diarization_networks() / "embedding.onnx", folder / "weights")
    (folder / "models.toml").write_text(CATALOGUE)
    entry = load_catalogue(folder / "models.toml").diarizers["sortformer"]
    write_pin(folder / "models.toml", "sortformer", find_newest(entry).pin)
    return folder


@pytest.fixture(scope="module")
def diarizer(site: Path) -> Diarizer:
    return load_diarizer(load_catalogue(site / "models.toml").diarizers["sortformer"])


def noises(talks: Sequence[Talk], seconds: float) -> np.ndarray:
    """Return audio in which speaker n is noise in the nth quarter of the mel bands."""
    draw = np.random.default_rng(1)
    edges = (0, 754, 1688, 3676, 8000)  # Hz
    audio = np.zeros(round(seconds * SAMPLE_RATE))
    for who, start_s, end_s in talks:
        n_samples = round((end_s - start_s) * SAMPLE_RATE)
        spectrum = np.fft.rfft(draw.normal(0, 1, n_samples))
        hertz = np.fft.rfftfreq(n_samples, 1 / SAMPLE_RATE)
        spectrum[(hertz < edges[who] + 50) | (hertz > edges[who + 1] - 50)] = 0
        noise = np.fft.irfft(spectrum, n_samples)
        first = round(start_s * SAMPLE_RATE)
        audio[first : first + n_samples] += 0.1 * noise / noise.std()
    return audio.astype(np.float32)


def spoken(diarization: Diarization) -> list[Talk]:
    """Return who talks when; what overlap has cut is joined."""
    joined: list[Talk] = []
    for speaker in range(len(diarization.centroids)):
        for turn in (each for each in diarization.turns if each.speaker == speaker):
            if joined and joined[-1][0] == speaker and turn.start_s - joined[-1][2] < 0.05:
                joined[-1] = (speaker, joined[-1][1], turn.end_s)
            else:
                joined.append((speaker, turn.start_s, turn.end_s))
    return sorted(joined, key=lambda talk: talk[1])


TALKS: Sequence[Talk] = tuple(
    (who, 8.0 * number + 1, 8.0 * number + 7.5)
    for number, who in enumerate((2, 0, 1, 2, 0, 2, 1, 0, 1, 2, 3, 0, 3, 1, 2, 0, 1, 3, 2, 0))
)
"""160 s, which three windows hear; the fourth speaker is in the last two alone."""


def test_a_graph_for_streams_tells_who_talks_when_across_windows(diarizer: Diarizer) -> None:
    audio = noises(TALKS, 161)

    heard = Activities.from_bytes(diarizer.local(audio, 0.0).to_bytes())
    found = spoken(diarizer.cluster([heard], SpeakerHints()))

    assert heard.activity.shape[2] == N_LOCAL
    assert len(heard.starts) == 3
    numbers = {2: 0, 0: 1, 1: 2, 3: 3}  # by first appearance
    assert [who for who, _, _ in found] == [numbers[who] for who, _, _ in TALKS]
    times = [[start, end] for _, start, end in found]
    np.testing.assert_allclose(times, [[start, end] for _, start, end in TALKS], atol=0.15)


def test_overlap_is_heard(diarizer: Diarizer) -> None:
    audio = noises([(0, 1, 9), (1, 6, 15), (0, 16, 22)], 23)

    found = diarizer.cluster([diarizer.local(audio, 0.0)], SpeakerHints())

    np.testing.assert_allclose(
        [each for talk in spoken(found) for each in talk],
        [*(0, 1, 9), *(1, 6, 15), *(0, 16, 22)],
        atol=0.15,
    )
    overlap_s = sum(turn.end_s - turn.start_s for turn in found.turns if turn.overlap)
    assert overlap_s == pytest.approx(2 * 3, abs=0.5)


def test_spans_are_linked_in_any_order_without_weights(site: Path, diarizer: Diarizer) -> None:
    audio = noises(TALKS, 161)
    half = 80 * SAMPLE_RATE
    spans = [diarizer.local(audio[:half], 0.0), diarizer.local(audio[half:], 80.0)]
    cluster = cluster_of(load_catalogue(site / "models.toml"), "sortformer")

    found = [cluster(order, SpeakerHints()) for order in (spans, spans[::-1])]

    assert found[0].turns == found[1].turns
    assert len(found[0].centroids) == 4


def test_silence_has_no_speakers(diarizer: Diarizer) -> None:
    for seconds in (0, 0.3, 100):
        silence = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
        found = diarizer.cluster([diarizer.local(silence, 3.0)], SpeakerHints(count=2))
        assert (found.turns, len(found.centroids)) == ((), 0)


def voice(name: str) -> np.ndarray:
    with (SAMPLES / name).open("rb") as file:
        return as_float(np.concatenate(list(read(file))))[: 6 * SAMPLE_RATE]


def test_real_voices_are_known_again_in_other_windows() -> None:
    names = ("meeting.mp3", "hello.wav", "weather.flac")
    order = [0, 1, 2, 1, 0, 2, 0, 1] * 2
    pause = np.zeros(SAMPLE_RATE // 2, np.float32)
    audio = np.concatenate([part for who in order for part in (voice(names[who]), pause)])
    truth = np.concatenate(
        [np.repeat([who, -1], [len(voice(names[who])), len(pause)]) for who in order]
    )
    offsets = iter(window_offsets(len(audio), WINDOW_SAMPLES, WINDOW_STEP_SAMPLES))

    def hear(window: np.ndarray) -> np.ndarray:
        """Return the truth, as Sortformer numbers speakers: in the order in which they come."""
        offset = next(offsets)
        whose = truth[offset : offset + len(window) : NETWORK_FRAME_SAMPLES]
        come = list(dict.fromkeys(whose[whose >= 0].tolist()))
        likely = np.zeros((len(whose), N_LOCAL), np.float32)
        for local, who in enumerate(come):
            likely[whose == who, local] = 0.95
        return likely

    path = diarization_networks() / "embedding.onnx"
    embedder = Campplus(path, 1, WINDOW_SAMPLES, MAX_VOICE_FRAMES)
    diarizer = Sortformer(hear, embedder, "sha256:none")

    found = diarizer.cluster([diarizer.local(audio, 0.0)], SpeakerHints())

    assert len(found.centroids) == 3
    assert [who for who, _, _ in spoken(found)] == order


def voices(*speakers: int) -> np.ndarray:
    """Return embeddings; those of one speaker have a cosine of 0.8."""
    own = np.random.default_rng(1).normal(size=(max(speakers) + 1, 400))
    more = 0.5 * np.random.default_rng(2).normal(size=(len(speakers), 400))
    found = own[list(speakers)] + more
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        (SpeakerHints(), 4),
        (SpeakerHints(count=2), 2),
        (SpeakerHints(max=3), 3),
        (SpeakerHints(min=5), 5),
        (SpeakerHints(min=2, max=6), 4),
    ],
)
def test_as_many_speakers_are_linked_as_hints_ask_for(hints: SpeakerHints, expected: int) -> None:
    who = (0, 1, 2, 3, 1, 0, 2, 3, 2, 1, 0, 3)

    found = linked(voices(*who), np.full(12, 9, np.float32), np.repeat([0, 1, 2], 4), hints)

    assert len(found) == expected


def test_speakers_of_one_window_are_never_one_however_alike() -> None:
    alike, weights = voices(0, 0), np.full(2, 9, np.float32)

    assert len(linked(alike, weights, np.array([0, 0]), SpeakerHints())) == 2
    assert len(linked(alike, weights, np.array([0, 1]), SpeakerHints())) == 1
    assert len(linked(alike, weights, np.array([0, 0]), SpeakerHints(count=1))) == 1


def test_another_graph_is_refused(tmp_path: Path) -> None:
    for name in ("sortformer.onnx", "embedding.onnx"):
        shutil.copy(diarization_networks() / "embedding.onnx", tmp_path / name)
    with pytest.raises(ModelError, match="other inputs than NeMo's export"):
        Sortformer.load(Weights(tmp_path, "sha256:none"))
