"""The two networks of ``campplus-seg3`` in onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.infra.errors import ModelError
from worker.diarization.features import Features
from worker.diarization.protocol import Vectors

SEGMENTATION, EMBEDDING = "segmentation.onnx", "embedding.onnx"

SPEAKERS_OF_CLASS = np.array(
    [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], np.float32
)
"""Which local speakers talk in each class of the segmentation; shape (7, 3)."""


class Networks:
    """The networks, loaded. A call may run beside another."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Load them.

        Raises:
            ModelError: onnxruntime is not installed, or it cannot read the files.
        """
        self._segmentation = _session(folder / SEGMENTATION, threads)
        self._embedding = _session(folder / EMBEDDING, threads)

    def activity(self, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return how likely each local speaker talks, shape (n_windows, n_frames, 3).

        ``windows`` are of shape (n_windows, n_samples), 10 s at most.
        """
        logs = _run(self._segmentation, "audio", windows)
        return np.exp(logs) @ SPEAKERS_OF_CLASS

    def embedding(self, features: Features) -> Vectors:
        """Return a voice's embedding, shape (n_features,), of unit length."""
        centred = features - features.mean(axis=0)
        vector = _run(self._embedding, "features", centred[np.newaxis])[0]
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-6), np.float32)


def _session(path: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("telling speakers apart needs onnxruntime, which is not installed") from (
            error
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait for the next operation would take processors from others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"the network {path.name} cannot be loaded") from error


def _run(session: Any, name: str, value: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    try:
        (output,) = session.run(None, {name: value})
    except Exception as error:
        raise ModelError("a network for speakers failed") from error
    return np.asarray(output, np.float32)
