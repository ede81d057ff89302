"""What goes wrong in torch is told as an error of ours, and holds no memory of the device."""

import weakref

import numpy as np
import pytest
import torch

from shared.infra.errors import DeviceOutOfMemory, EngineFailed
from worker.engines.torch_models import torch_failures


def test_an_error_of_a_full_device_holds_no_tensor_of_the_batch() -> None:
    held: list[weakref.ref[np.ndarray]] = []

    def compute() -> None:
        tensor = np.zeros(1_000)
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory")

    with (
        pytest.raises(DeviceOutOfMemory, match="cuda: out of memory") as caught,
        torch_failures("cuda", "torch 1"),
    ):
        compute()

    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    assert held[0]() is None


def test_other_failures_of_torch_are_the_engines() -> None:
    with pytest.raises(EngineFailed, match="torch 1 failed"), torch_failures("cpu", "torch 1"):
        raise RuntimeError("cuBLAS is gone")
