"""The sentences of tests/models as numbers, for a machine that cannot decode FLAC.

``python -m bench.gpu.sentences FOLDER`` writes them there; ``bench/gpu/pack.sh`` does.
"""

import sys
from pathlib import Path

import numpy as np

from shared.speech.audio.samples import Samples

FILE = "heldout.npz"
"""Text -> float32 of shape (n_samples,) at 16 kHz."""


def write(folder: Path) -> None:
    """Decode the sentences into ``FILE``; needs PyAV."""
    # As 16-bit integers, which is what they were: half the size.
    np.savez_compressed(
        folder / FILE,
        **{text: np.round(samples * 32768).astype(np.int16) for text, samples in _decode().items()},
    )


def load(folder: Path) -> dict[str, Samples]:
    """Return text -> float32 of shape (n_samples,), from the folder or from their own files.

    Raises:
        ImportError: they are not in the folder, and cannot be decoded here.
    """
    if not (folder / FILE).exists():
        return _decode()
    with np.load(folder / FILE) as arrays:
        return {text: arrays[text].astype(np.float32) / 32768 for text in arrays.files}


def _decode() -> dict[str, Samples]:
    from bench.speech import heldout

    return {clip.text: clip.samples for clip in heldout()}


if __name__ == "__main__":
    write(Path(sys.argv[1]))
