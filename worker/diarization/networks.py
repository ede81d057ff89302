"""Networks in onnxruntime, and the segmentation network that diarizers share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.infra.errors import ModelError

SPEAKERS_OF_CLASS = np.array(
    [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], np.float32
)
"""Which local speakers talk in each class of the segmentation; shape (7, 3)."""


class Network:
    """A network, loaded. A call may run beside another."""

    inputs: Mapping[str, Sequence[int | str]]
    """Shapes by name; a dimension with a name is open."""

    def __init__(self, graph: Path | bytes, threads: int) -> None:
        """Load it from a file, or from the bytes of one.

        Raises:
            ModelError: onnxruntime is not installed, or it cannot read the graph.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise ModelError(
                "telling speakers apart needs onnxruntime, which is not installed"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that wait for the next operation would take processors from others.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False
        is_file = isinstance(graph, Path)
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(graph) if is_file else graph, options, providers=["CPUExecutionProvider"]
            )
            self.inputs = {each.name: each.shape for each in self._session.get_inputs()}
        except Exception as error:
            name = f"network {graph.name}" if isinstance(graph, Path) else "model's network"
            raise ModelError(f"the {name} cannot be loaded") from error

    def __call__(self, value: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the output of a network that has one input and one output.

        Raises:
            ModelError: it failed.
        """
        (name,) = self.inputs
        return self.run({name: value})

    def run(
        self, values: Mapping[str, npt.NDArray[Any]], output: str | None = None
    ) -> npt.NDArray[np.float32]:
        """Return an output, given all inputs by their names; without a name, the first.

        Raises:
            ModelError: it failed.
        """
        try:
            found, *_ = self._session.run(None if output is None else [output], values)
        except Exception as error:
            raise ModelError("a network for speakers failed") from error
        return np.asarray(found, np.float32)


def activity(segmentation: Network, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return how likely each local speaker talks, shape (n_windows, n_frames, 3).

    ``windows`` are of shape (n_windows, n_samples), 10 s at most.
    """
    return np.exp(segmentation(windows)) @ SPEAKERS_OF_CLASS
