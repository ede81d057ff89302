"""Device, dtype and errors of the engines on torch."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from shared.infra.errors import DeviceOutOfMemory, EngineFailed, ModelError
from shared.models.catalogue import Model

DTYPES = ("float32", "float16", "bfloat16")


def choose_device(
    model: Model, device: Literal["auto", "cpu", "cuda"], dtype: str
) -> tuple[str, str]:
    """Return 'cpu' or 'cuda', and one of ``DTYPES``.

    'auto' takes the GPU if there is one, and float16 there, else float32.

    Raises:
        ModelError: there is no GPU, or the device cannot compute in the dtype.
    """
    import torch

    found = torch.cuda.is_available()
    if device == "cuda" and not found:
        raise ModelError(f"model '{model.id}': torch finds no GPU")
    chosen = "cuda" if found and device != "cpu" else "cpu"
    if dtype == "auto":
        dtype = "float16" if chosen == "cuda" else "float32"
    if dtype not in DTYPES or (chosen, dtype) == ("cpu", "float16"):
        raise ModelError(f"model '{model.id}' cannot compute in {dtype} on {chosen}")
    return chosen, dtype


@contextmanager
def torch_failures(device: str, version: str) -> Iterator[None]:
    """Turn torch's errors within the block into Longhand's.

    Raises:
        DeviceOutOfMemory: the device's memory is full.
        EngineFailed: torch failed otherwise.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        # The frames of the traceback hold the batch's tensors while anything holds the error.
        traceback.clear_frames(error.__traceback__)
        raise DeviceOutOfMemory(f"{device}: out of memory") from error
    except RuntimeError as error:
        raise EngineFailed(f"{version} failed") from error
