"""Layers of residual networks over frequency and time, as a checkpoint's tensors name them."""

from collections.abc import Mapping

from shared.infra.onnx_format import Graph
from shared.models.conversion.checkpoints import Array

EPSILON = 1e-5
"""Of batch normalization. The networks leave PyTorch's default."""


class Layers:
    """Adds layers to a graph, by the names of their tensors.

    Every method raises ``KeyError`` if a tensor is missing.
    """

    def __init__(self, graph: Graph, weights: Mapping[str, Array]) -> None:
        self._graph = graph
        self._weights = weights

    def residual(self, value: str, name: str, strides: tuple[int, int] = (1, 1)) -> str:
        """Add two convolutions, and what comes in to what comes out of them."""
        new = self.plane(value, f"{name}.conv1", f"{name}.bn1", strides, is_activated=True)
        new = self.plane(new, f"{name}.conv2", f"{name}.bn2")
        if f"{name}.shortcut.0.weight" in self._weights:
            value = self.plane(value, f"{name}.shortcut.0", f"{name}.shortcut.1", strides)
        return self._graph.add("Relu", self._graph.add("Add", new, value))

    def plane(
        self,
        value: str,
        kernel: str,
        norm: str,
        strides: tuple[int, int] = (1, 1),
        *,
        is_activated: bool = False,
    ) -> str:
        """Convolve over frequency and time, whose strides are given in this order."""
        around = self._weights[f"{kernel}.weight"].shape[-1] // 2
        value = self.convolved(value, kernel, strides=[*strides], pads=[around] * 4)
        if is_activated:
            return self.activated(value, norm)
        return self.batch_normalized(value, norm)

    def convolved(self, value: str, name: str, **attributes: list[int]) -> str:
        """Add a convolution of any dimension, with its bias if it has one."""
        constants = [self._graph.constant(self._weights[f"{name}.weight"])]
        if f"{name}.bias" in self._weights:
            constants.append(self._graph.constant(self._weights[f"{name}.bias"]))
        return self._graph.add("Conv", value, *constants, **attributes)

    def activated(self, value: str, name: str) -> str:
        """Add a batch normalization and a ReLU."""
        return self._graph.add("Relu", self.batch_normalized(value, name))

    def batch_normalized(self, value: str, name: str) -> str:
        """Add a batch normalization; one without tensors for scale and shift has neither."""
        mean, variance = (self._weights[f"{name}.running_{kind}"] for kind in ("mean", "var"))
        scale = self._weights.get(f"{name}.weight", 0 * mean + 1)
        shift = self._weights.get(f"{name}.bias", 0 * mean)
        constants = [self._graph.constant(each) for each in (scale, shift, mean, variance)]
        return self._graph.add("BatchNormalization", value, *constants, epsilon=EPSILON)
