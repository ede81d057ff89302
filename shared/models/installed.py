"""Which packages each engine needs, and whether they are installed."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import NamedTuple

from shared.models.catalogue import EngineName, Model


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
