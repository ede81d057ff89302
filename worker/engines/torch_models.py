"""Models on torch: their device and dtype, loading them, batches on the device, errors."""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.infra.errors import DeviceOutOfMemory, EngineFailed, ModelError
from shared.models.catalogue import Model
from shared.speech.audio.samples import Samples
from worker.engines.processors import CallsUnderWay, Shares, share_processors
from worker.engines.protocol import Device

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = ("float32", "float16", "bfloat16")


def choose_device(
    model: Model, device: Device, dtype: str, *, on_cpu: str = "float32"
) -> tuple[str, str]:
    """Return 'cpu' or 'cuda', and one of ``DTYPES``.

    'auto' takes the GPU if there is one, and float16 there, else ``on_cpu``.

    Raises:
        ModelError: there is no GPU, or the device cannot compute in the dtype.
    """
    import torch

    found = torch.cuda.is_available()
    if device == "cuda" and not found:
        raise ModelError(f"model '{model.id}': torch finds no GPU")
    chosen = "cuda" if found and device != "cpu" else "cpu"
    if dtype == "auto":
        dtype = "float16" if chosen == "cuda" else on_cpu
    if dtype not in DTYPES or (chosen, dtype) == ("cpu", "float16"):
        raise ModelError(f"model '{model.id}' cannot compute in {dtype} on {chosen}")
    return chosen, dtype


class Streams:
    """Calls of a network that run side by side, and torch's threads for each.

    torch keeps the number of threads by the thread that calls. A call that begins alone has more.
    """

    def __init__(self, device: str) -> None:
        """On a GPU there is one stream, and torch's threads do not matter."""
        import torch

        self.count = 1
        """Calls that may run at the same time."""
        self._shares: Shares | None = None
        self._calls = CallsUnderWay()
        if device == "cpu":
            self._shares = share_processors()
            self.count = self._shares.streams
            torch.set_num_threads(self._shares.threads)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Give this thread its share of the processors while the block runs."""
        import torch

        with self._calls.begin() as is_alone:
            if self._shares is not None:
                torch.set_num_threads(self._shares.alone if is_alone else self._shares.threads)
            try:
                yield
            finally:
                # Threads that compute for the first time take over the last number that was set.
                if self._shares is not None:
                    torch.set_num_threads(self._shares.threads)


def load_pretrained(
    model: Model,
    folder: Path,
    dtype: str,
    classes: tuple[Any, Any, Any],
    *,
    needed: str = "",
    **options: Any,
) -> tuple[Any, Any, Any]:
    """Return a folder's network, feature extractor and tokenizer, of these transformers classes.

    No code of the folder is run. ``needed`` is a prefix of the tensors without which the network is
    useless; ``options`` are the network's own.

    Raises:
        ModelError: files are damaged or of another kind of model, or needed tensors are missing.
    """
    from safetensors import SafetensorError
    from transformers.utils import logging

    # Progress bars would be drawn into the worker's log.
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    network_class, extractor_class, tokenizer_class = classes
    try:
        network, report = network_class.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
        extractor = extractor_class.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        tokenizer = tokenizer_class.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"model '{model.id}' cannot be loaded: {error}") from error
    # The library fills missing tensors with random numbers.
    if lacking := sorted(name for name in report["missing_keys"] if name.startswith(needed)):
        raise ModelError(f"the weights of model '{model.id}' lack {', '.join(lacking[:3])}")
    return network, extractor, tokenizer


def stack(batch: Sequence[Samples], n_samples: int, device: str) -> "Tensor":
    """Return items of shape (n,), cut or padded with zeros, as float32 of (n_items, n_samples)."""
    import torch

    # A GPU copies pinned memory while this thread goes on.
    on_gpu = device == "cuda"
    waves = torch.zeros(len(batch), n_samples, pin_memory=on_gpu)
    for row, samples in zip(waves.numpy(), batch, strict=True):
        heard = samples[:n_samples]
        row[: len(heard)] = heard
    return waves.to(device, non_blocking=on_gpu)


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
