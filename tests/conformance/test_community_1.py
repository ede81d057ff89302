"""pyannote's community-1, loaded from files as its repository has them (``community_1``)."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from bench.pipeline import as_float, read
from harness.engines import community_1
from harness.engines.real_models import diarization_networks
from harness.engines.torch_files import lightning_checkpoint
from shared.infra.errors import ModelError
from shared.models.catalogue import Catalogue, load_catalogue
from shared.models.pinning import find_newest
from shared.models.pins import write_pin
from shared.models.weights import Weights
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.speakers.turns import SpeakerHints
from worker.diarization import load_diarizer, timeline
from worker.diarization.campplus_seg3 import CampplusSeg3
from worker.diarization.community_1 import Community1, tell_apart
from worker.diarization.features import log_mel_energies
from worker.diarization.protocol import Activities, Diarizer
from worker.diarization.voices import HearsVoices
from worker.steps.diarizers import cluster_of

ID = "pyannote-community-1"
CATALOGUE = f"""
[models.{ID}]
kind = "diarization"
description = "Tells speakers apart."
engine = "pyannote-community-1"
source = "file:weights"
revision = "unpinned"
size_bytes = 1
"""
SAMPLES = Path(__file__).parents[2] / "samples"


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def pinned_catalogue(folder: Path) -> Catalogue:
    """Return a catalogue whose entry is pinned to the files that are in its folder now."""
    path = folder / "models.toml"
    path.write_text(CATALOGUE)
    write_pin(path, ID, find_newest(load_catalogue(path).diarizers[ID]).pin)
    return load_catalogue(path)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("community-1")
    write(folder / "weights", community_1.files())
    return folder


@pytest.fixture(scope="module")
def catalogue(site: Path) -> Catalogue:
    return pinned_catalogue(site)


@pytest.fixture(scope="module")
def diarizer(catalogue: Catalogue) -> Diarizer:
    return load_diarizer(catalogue.diarizers[ID])


def voice(name: str) -> np.ndarray:
    with (SAMPLES / name).open("rb") as file:
        return as_float(np.concatenate(list(read(file))))[: 5 * SAMPLE_RATE]


def speech() -> np.ndarray:
    """Return two of Flite's voices in turn: 5 s each, and half a second between."""
    pause = np.zeros(SAMPLE_RATE // 2, np.float32)
    names = ("meeting.mp3", "hello.wav") * 2
    return np.concatenate([part for name in names for part in (voice(name), pause)])


@pytest.fixture(scope="module")
def heard(diarizer: Diarizer) -> Activities:
    return Activities.from_bytes(diarizer.local(speech()[: 11 * SAMPLE_RATE], 0.0).to_bytes())


def test_files_are_loaded_as_the_repository_has_them(
    catalogue: Catalogue, diarizer: Diarizer
) -> None:
    assert isinstance(diarizer, Community1)
    assert diarizer.weights_digest == catalogue.diarizers[ID].revision
    assert diarizer.version.startswith("onnxruntime ")
    assert not isinstance(diarizer, HearsVoices), "live sessions have thresholds of CAM++'s"


def test_embeddings_are_pytorchs(heard: Activities) -> None:
    window = int(np.flatnonzero(heard.alone_s > 4)[0])
    begin = int(heard.starts[heard.windows[window]])
    talks = heard.activity[heard.windows[window]] >= 128
    mask = talks[:, heard.voices[window]] & (talks.sum(axis=1) == 1)

    with torch.inference_mode():
        expected = embedded(speech()[begin : begin + 10 * SAMPLE_RATE], mask).numpy()

    found = heard.embeddings[window].astype(np.float32)
    assert found @ expected / np.linalg.norm(expected) > 0.9999


def embedded(audio: np.ndarray, mask: np.ndarray) -> torch.Tensor:
    """WeSpeaker's ResNet34 in PyTorch, pooled over a speaker's frames, shape (256,)."""
    weights = {name: torch.from_numpy(each) for name, each in community_1.random_resnet34().items()}

    def plane(value: torch.Tensor, kernel: str, norm: str, stride: int = 1) -> torch.Tensor:
        around = weights[f"{kernel}.weight"].shape[-1] // 2
        value = functional.conv2d(value, weights[f"{kernel}.weight"], stride=stride, padding=around)
        kinds = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(value, *(weights[f"{norm}.{kind}"] for kind in kinds))

    features = torch.from_numpy(log_mel_energies(audio * np.float32(32768), "hamming"))
    value = (features - features.mean(dim=0)).T[None, None]
    value = plane(value, "resnet.conv1", "resnet.bn1").relu()
    for layer, n_blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(n_blocks):
            name, stride = f"resnet.layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            new = plane(value, f"{name}.conv1", f"{name}.bn1", stride).relu()
            new = plane(new, f"{name}.conv2", f"{name}.bn2")
            if stride == 2:
                value = plane(value, f"{name}.shortcut.0", f"{name}.shortcut.1", stride)
            value = (new + value).relu()
    frames = value.flatten(1, 2)  # (1, 2560, n_frames)
    weight = torch.from_numpy(mask.astype(np.float32))[None, None]
    own = frames[0][:, functional.interpolate(weight, frames.shape[2])[0, 0] > 0]
    pooled = torch.cat([own.mean(dim=1), own.std(dim=1)])
    return functional.linear(pooled, weights["resnet.seg_1.weight"], weights["resnet.seg_1.bias"])


def test_real_voices_in_turn_are_told_apart_and_counted() -> None:
    # The real segmentation and CAM++'s voices, in a PLDA that is as wide in all directions.
    within = 0.2
    """Of the length of CAM++'s embeddings: a voice's own are alike by 0.8."""
    diarizer = CampplusSeg3(Weights(diarization_networks(), "sha256:not-read"))
    heard = diarizer.local(speech(), 0.0)
    n_features = heard.embeddings.shape[1]
    heard = replace(
        heard,
        plda=heard.embeddings * np.float16((n_features / within) ** 0.5),
        plda_variances=np.full(n_features, (1 - within) / within, np.float32),
    )

    found = tell_apart(timeline.join([heard]), SpeakerHints())

    middles = [5.5 * number + 2.5 for number in range(4)]
    at = [{t.speaker for t in found.turns if t.start_s < m < t.end_s} for m in middles]
    assert at == [{0}, {1}, {0}, {1}]
    assert len(found.centroids) == 2


def test_speakers_are_told_apart_without_weights_and_in_any_order_of_spans(
    catalogue: Catalogue, diarizer: Diarizer
) -> None:
    audio = speech()
    half = len(audio) // 2
    spans = [diarizer.local(audio[:half], 0.0), diarizer.local(audio[half:], half / SAMPLE_RATE)]
    spans = [Activities.from_bytes(each.to_bytes()) for each in spans]
    cluster = cluster_of(catalogue, ID)

    found = [cluster(order, SpeakerHints(count=2)) for order in (spans, spans[::-1])]

    assert found[0].turns == found[1].turns
    assert len({turn.speaker for turn in found[0].turns}) == 2
    assert found[0].turns == diarizer.cluster(spans, SpeakerHints(count=2)).turns


@pytest.mark.parametrize("seconds", [0.0, 0.3, 5.0])
def test_silence_has_no_speakers(diarizer: Diarizer, seconds: float) -> None:
    silence = np.zeros(round(seconds * SAMPLE_RATE), np.float32)

    found = diarizer.cluster([diarizer.local(silence, 3.0)], SpeakerHints(count=2))

    assert (found.turns, len(found.centroids)) == ((), 0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("embedding/pytorch_model.bin", lightning_checkpoint({}), "has no tensor 'resnet.conv1"),
        ("segmentation/pytorch_model.bin", lightning_checkpoint({}), "has no tensor 'sincnet"),
        ("segmentation/pytorch_model.bin", b"version https://git-lfs", "checkpoint is damaged"),
        ("plda/plda.npz", b"version https://git-lfs", r"plda\.npz cannot be read"),
    ],
)
def test_files_of_something_else_are_refused_in_one_line(
    site: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    whole = {
        path.relative_to(site / "weights").as_posix(): path.read_bytes()
        for path in (site / "weights").rglob("*")
        if path.is_file()
    }
    write(tmp_path / "weights", whole | {name: content})
    model = pinned_catalogue(tmp_path).diarizers[ID]

    with pytest.raises(ModelError, match=message) as caught:
        load_diarizer(model)
    assert "\n" not in str(caught.value)
