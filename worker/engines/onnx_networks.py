"""What engines in ONNX Runtime share: providers, threads, errors, and NeMo's configuration.

All calls share one pool of threads, so a call that is alone has all processors. Threads that wait
do not spin, so calls side by side lose nothing by it: of items of 15 s a small network hears 20.8
in a second of processor time, where threads that spin leave 10.6.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.infra.errors import DeviceOutOfMemory, EngineFailed, ModelError
from shared.models.catalogue import Model
from shared.speech.audio.rate import SAMPLE_RATE
from worker.engines.processors import share_processors
from worker.engines.protocol import Device

HOP_SAMPLES = SAMPLE_RATE // 100
"""10 ms between feature frames: onnx-asr computes no others."""

_GPU, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class OnnxRuntime:
    """ONNX Runtime on the device that a model is to be loaded on."""

    def __init__(self, model: Model, device: Device) -> None:
        """Choose the providers.

        Raises:
            ModelError: there is no GPU, where one is asked for.
        """
        import onnxruntime

        self._model_id, self._wanted = model.id, device
        on_gpu = _GPU in onnxruntime.get_available_providers()
        if device == "cuda" and not on_gpu:
            raise ModelError(f"model '{model.id}': the installed ONNX Runtime cannot use a GPU")
        self.providers = [_CPU]
        if device != "cpu" and on_gpu:
            # The CUDA libraries are wheels, outside the linker's path.
            onnxruntime.preload_dlls()
            self.providers.insert(0, _GPU)
        self.errors = _runtime_errors()
        shares = share_processors()
        self._streams = shares.streams
        self.options = onnxruntime.SessionOptions()
        if len(self.providers) == 1:
            self.options.intra_op_num_threads = shares.alone
            self.options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def device_of(self, session: Any) -> str:
        """Return 'cuda' or 'cpu'.

        ONNX Runtime silently falls back to the CPU; only its session shows that.

        Raises:
            ModelError: a GPU is asked for, and the session does not run on it.
        """
        device = "cuda" if _GPU in session.get_providers() else "cpu"
        if self._wanted == "cuda" and device != "cuda":
            raise ModelError(f"model '{self._model_id}': ONNX Runtime found no usable GPU")
        return device

    def streams(self, device: str) -> int:
        """Return how many calls may run at the same time."""
        return self._streams if device == "cpu" else 1

    @contextmanager
    def failures(self, device: str, version: str) -> Iterator[None]:
        """Turn ONNX Runtime's errors into ours while the block runs.

        Raises:
            DeviceOutOfMemory: the device's memory is full.
            EngineFailed: anything else.
        """
        try:
            yield
        except self.errors as error:
            # ONNX Runtime has no class of its own for a full memory.
            if "Failed to allocate memory" in str(error) or "out of memory" in str(error):
                raise DeviceOutOfMemory(f"{device}: out of memory") from error
            raise EngineFailed(f"{version} failed") from error


def read_config(model: Model, folder: Path) -> dict[str, Any]:
    """Return config.json of a NeMo network, whose ``subsampling_factor`` is checked.

    That is how many feature frames the network merges into one. onnx-asr's default is 8, so it
    would read only half of the frames of a network that merges 4.

    Raises:
        ModelError: the configuration lacks it.
    """
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        factor = config["subsampling_factor"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"config.json of model '{model.id}' has no subsampling_factor") from error
    if not isinstance(factor, int) or factor < 1:
        raise ModelError(f"config.json of model '{model.id}': subsampling_factor is {factor!r}")
    return config


def _runtime_errors() -> tuple[type[Exception], ...]:
    """Return ONNX Runtime's error classes, whose only common base is Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = (
        *("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile"),
        *("NotImplemented", "RuntimeException"),
    )
    return tuple(getattr(state, name) for name in names)
