"""Speech engines: one file each, and the way from a catalogue entry to a loaded one."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Literal, NamedTuple

from shared.catalogue import EngineName, Model
from shared.errors import ModelError
from worker.engines.protocol import Engine


class Install(NamedTuple):
    """What an engine needs."""

    packages: tuple[str, ...]
    """What is imported."""
    pins: tuple[str, ...]
    """The files of pins that install it, below the tree's root."""

    @property
    def command(self) -> str:
        """What to type in the root of a clone. Pip refuses pins with and without hashes at once."""
        return " && ".join(f".venv/bin/python -m pip install -r {file}" for file in self.pins)


_RUN = ("requirements/run.txt",)
_TORCH = ("requirements/transformers.txt", "requirements/torch.txt")

INSTALLS: Mapping[EngineName, Install] = {
    "pocketsphinx": Install(("pocketsphinx",), _RUN),
    "faster-whisper": Install(("faster_whisper",), _RUN),
    "transformers-whisper": Install(("torch", "transformers"), _TORCH),
    "transformers-ctc": Install(("torch", "transformers"), _TORCH),
    "onnx-ctc": Install(("onnx_asr", "onnxruntime"), _RUN),
}
"""The oracle needs nothing."""


def missing_engine(model: Model) -> str | None:
    """Return a sentence on what to install before the model can be used, or None: nothing."""
    install = INSTALLS.get(model.engine)
    if install is None or all(find_spec(package) for package in install.packages):
        return None
    return f"its engine, {model.engine}, is not installed: {install.command}"


def load_engine(
    model: Model,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    dtype: str = "auto",
    compile: bool = False,  # noqa: A002 - torch's own word for it
) -> Engine:
    """Load the model with the engine its catalogue entry names.

    Engine libraries are imported here and not before: a worker needs those of its own model only.

    Args:
        model: the catalogue entry.
        device: 'auto' takes the GPU if there is one. Engines that know the CPU only use that.
        dtype: what to compute in; 'auto' is the engine's own choice for the device. Engines whose
            weights fix it ('onnx-ctc', 'pocketsphinx', 'oracle') use that.
        compile: let torch compile the model first, where the engine can.

    Raises:
        ModelError: a library or the weights are missing, or the device or dtype cannot be used.
        DeviceOutOfMemory, EngineFailed: the device cannot take it.
    """
    if (missing := missing_engine(model)) is not None:
        raise ModelError(f"model '{model.id}': {missing}")
    match model.engine:
        case "pocketsphinx":
            from worker.engines.pocketsphinx import PocketSphinxEngine

            return PocketSphinxEngine(model)
        case "faster-whisper":
            from worker.engines.faster_whisper import FasterWhisperEngine

            return FasterWhisperEngine(model, device, dtype)
        case "transformers-whisper":
            from worker.engines.transformers_whisper import TransformersWhisperEngine

            return TransformersWhisperEngine(model, device, dtype, compile=compile)
        case "transformers-ctc":
            from worker.engines.transformers_ctc import TransformersCtcEngine

            return TransformersCtcEngine(model, device, dtype)
        case "onnx-ctc":
            from worker.engines.onnx_ctc import OnnxCtcEngine

            return OnnxCtcEngine(model, device)
        case "oracle":
            from worker.engines.oracle import OracleEngine

            return OracleEngine()
