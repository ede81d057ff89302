"""The packages that each engine needs, and whether they are installed."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import NamedTuple

from shared.models.catalogue import EngineName, Model
from shared.models.entries import DiarizationModel, DiarizerName


class Install(NamedTuple):
    """How an engine is installed."""

    packages: tuple[str, ...]
    """The packages that it imports."""
    pins: tuple[str, ...]
    """The requirements files that install them, below the tree's root."""

    @property
    def command(self) -> str:
        """The shell command to type in the root of a clone.

        Each file has a pip of its own: pip refuses files with and without hashes together.
        """
        return " && ".join(f".venv/bin/python -m pip install -r {file}" for file in self.pins)


_RUN = ("requirements/run.txt",)
_TORCH = ("requirements/transformers.txt", "requirements/torch.txt")

INSTALLS: Mapping[EngineName | DiarizerName, Install] = {
    "pocketsphinx": Install(("pocketsphinx",), _RUN),
    "faster-whisper": Install(("faster_whisper",), _RUN),
    "transformers-whisper": Install(("torch", "transformers"), _TORCH),
    "transformers-ctc": Install(("torch", "transformers"), _TORCH),
    "onnx-ctc": Install(("onnx_asr", "onnxruntime"), _RUN),
    "campplus-seg3": Install(("onnxruntime",), _RUN),
    "pyannote-community-1": Install(("onnxruntime",), _RUN),
    "sortformer": Install(("onnxruntime",), _RUN),
    "onnx-transducer": Install(("onnx_asr", "onnxruntime"), _RUN),
}
"""By engine. The oracle needs nothing."""


def missing_engine(model: Model | DiarizationModel) -> str | None:
    """Return why a model's engine cannot be imported and what to install; None where it can."""
    install = INSTALLS.get(model.engine)
    if install is None or all(find_spec(package) for package in install.packages):
        return None
    return f"its engine, {model.engine}, is not installed: {install.command}"
