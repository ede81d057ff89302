"""Speech engines: one file each, and the way from a catalogue entry to a loaded one."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Literal, NamedTuple

from shared.catalogue import EngineName, Model
from shared.errors import ModelError
from worker.engines.protocol import Engine


class _Install(NamedTuple):
    extra: str
    """longhand[extra] installs what the engine needs."""
    packages: tuple[str, ...]
    """What is imported of it."""


_INSTALLS: Mapping[EngineName, _Install] = {
    "pocketsphinx": _Install("pocketsphinx", ("pocketsphinx",)),
    "faster-whisper": _Install("faster-whisper", ("faster_whisper",)),
    "transformers-whisper": _Install("transformers", ("torch", "transformers")),
    "transformers-ctc": _Install("transformers", ("torch", "transformers")),
    "onnx-ctc": _Install("onnx-ctc", ("onnx_asr", "onnxruntime")),
}
"""The oracle needs nothing."""


def missing_engine(model: Model) -> str | None:
    """Return a sentence on what to install before the model can be used, or None: nothing."""
    install = _INSTALLS.get(model.engine)
    if install is None or all(find_spec(package) for package in install.packages):
        return None
    return f"model '{model.id}' needs its engine, {model.engine}: install longhand[{install.extra}]"


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
        raise ModelError(missing)
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
