"""Speech engines: one file each, and the way from a catalogue entry to a loaded one."""

from importlib.util import find_spec
from typing import Literal

from shared.catalogue import Model
from shared.errors import ModelError
from worker.engines.protocol import Engine

_PACKAGES = {"pocketsphinx": "pocketsphinx", "faster-whisper": "faster_whisper"}
"""The package that an engine needs; the oracle needs none."""


def missing_engine(model: Model) -> str | None:
    """Return a sentence on what to install before the model can be used, or None: nothing."""
    package = _PACKAGES.get(model.engine)
    if package is None or find_spec(package) is not None:
        return None
    return f"model '{model.id}' needs the {model.engine} package: install longhand[{model.engine}]"


def load_engine(model: Model, *, device: Literal["auto", "cpu", "cuda"] = "auto") -> Engine:
    """Load the model with the engine its catalogue entry names.

    Engine libraries are imported here and not before: a worker needs those of its own model only.

    Args:
        model: the catalogue entry.
        device: 'auto' takes the GPU if there is one. Engines that know the CPU only use that.

    Raises:
        ModelError: a library or the weights are missing, or the device cannot be used.
    """
    if (missing := missing_engine(model)) is not None:
        raise ModelError(missing)
    match model.engine:
        case "pocketsphinx":
            from worker.engines.pocketsphinx import PocketSphinxEngine

            return PocketSphinxEngine(model)
        case "faster-whisper":
            from worker.engines.faster_whisper import FasterWhisperEngine

            return FasterWhisperEngine(model, device)
        case "oracle":
            from worker.engines.oracle import OracleEngine

            return OracleEngine()
