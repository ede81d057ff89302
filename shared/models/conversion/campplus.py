"""CAM++ as an ONNX graph: a voice's embedding from mel features.

The network is https://github.com/modelscope/3D-Speaker's (Apache-2.0; Wang et al., "CAM++: A Fast
and Efficient Network for Speaker Verification Using Context-Aware Masking", 2023): a small residual
network over time and frequency, then three blocks of densely connected time-delay layers, each
masked by what is around it.
"""

from collections.abc import Mapping

from shared.infra.onnx_format import Graph
from shared.models.conversion.checkpoints import Array
from shared.models.conversion.layers import Layers

BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Layers and dilation of each block."""
KERNEL = 3
CONTEXT_FRAMES = 100
"""Frames, of 20 ms, whose mean is the near context of a layer's mask."""
N_MELS = 80

Weights = Mapping[str, Array]


def campplus_graph(weights: Weights) -> bytes:
    """Return the ONNX file.

    Its input 'features' has shape (n_items, n_frames, 80): log mel energies every 10 ms, less their
    mean over time. Its output 'embeddings' has shape (n_items, 192), not normalized.

    Raises:
        KeyError: a tensor is missing.
    """
    return _Campplus(weights).to_bytes()


class _Campplus:
    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._graph = Graph("campplus")
        self._layers = Layers(self._graph, weights)
        self._positions = ""
        """Names the frames' numbers of their near contexts."""

    def to_bytes(self) -> bytes:
        graph = self._graph
        value = self._time_delay(self._residual_network())
        length = graph.add("Gather", graph.add("Shape", value), graph.constant(2))
        frames = graph.add("Range", graph.constant(0), length, graph.constant(1))
        self._positions = graph.add("Div", frames, graph.constant(CONTEXT_FRAMES))
        for number, (n_layers, dilation) in enumerate(BLOCKS, start=1):
            for layer in range(1, n_layers + 1):
                name = f"xvector.block{number}.tdnnd{layer}"
                new = self._dense_layer(value, name, dilation)
                value = graph.add("Concat", value, new, axis=1)
            value = self._layers.activated(value, f"xvector.transit{number}.nonlinear.batchnorm")
            value = self._layers.convolved(value, f"xvector.transit{number}.linear")
        value = self._layers.activated(value, "xvector.out_nonlinear.batchnorm")
        embeddings = self._embedded(self._statistics(value))
        n_outputs = len(self._weights["xvector.dense.linear.weight"])
        return graph.to_bytes(
            {"features": ("n_items", "n_frames", N_MELS)},
            {"embeddings": (embeddings, ("n_items", n_outputs))},
        )

    def _residual_network(self) -> str:
        """Return (n_items, channels times bands, n_frames)."""
        graph = self._graph
        value = graph.add("Transpose", "features", perm=[0, 2, 1])
        value = graph.add("Unsqueeze", value, graph.constant([1]))  # (n_items, 1, n_mels, n_frames)
        value = self._layers.plane(value, "head.conv1", "head.bn1", is_activated=True)
        for layer in ("head.layer1", "head.layer2"):
            value = self._layers.residual(value, f"{layer}.0", (2, 1))
            value = self._layers.residual(value, f"{layer}.1")
        value = self._layers.plane(value, "head.conv2", "head.bn2", (2, 1), is_activated=True)
        n_features = self._weights["xvector.tdnn.linear.weight"].shape[1]
        return graph.add("Reshape", value, graph.constant([0, n_features, -1]))

    def _time_delay(self, value: str) -> str:
        """Return (n_items, 128, frames of 20 ms)."""
        value = self._layers.convolved(value, "xvector.tdnn.linear", strides=[2], pads=[2, 2])
        return self._layers.activated(value, "xvector.tdnn.nonlinear.batchnorm")

    def _dense_layer(self, value: str, name: str, dilation: int) -> str:
        """Return the layer's new features, masked by their context."""
        graph = self._graph
        value = self._layers.activated(value, f"{name}.nonlinear1.batchnorm")
        value = self._layers.convolved(value, f"{name}.linear1")
        value = self._layers.activated(value, f"{name}.nonlinear2.batchnorm")
        local = self._layers.convolved(
            value,
            f"{name}.cam_layer.linear_local",
            dilations=[dilation],
            pads=[KERNEL // 2 * dilation] * 2,
        )
        near = graph.add(
            "AveragePool",
            value,
            kernel_shape=[CONTEXT_FRAMES],
            strides=[CONTEXT_FRAMES],
            ceil_mode=1,
        )
        context = graph.add("Add", graph.add("ReduceMean", value, axes=[-1]), near)
        mask = graph.add("Relu", self._layers.convolved(context, f"{name}.cam_layer.linear1"))
        mask = graph.add("Sigmoid", self._layers.convolved(mask, f"{name}.cam_layer.linear2"))
        return graph.add("Mul", local, graph.add("Gather", mask, self._positions, axis=2))

    def _statistics(self, value: str) -> str:
        """Return mean and standard deviation (unbiased) over time, one after the other."""
        graph = self._graph
        mean = graph.add("ReduceMean", value, axes=[-1])
        distance = graph.add("Sub", value, mean)
        squares = graph.add("ReduceSum", graph.add("Mul", distance, distance), graph.constant([-1]))
        length = graph.add("Gather", graph.add("Shape", value), graph.constant(2))
        others = graph.add("Sub", graph.add("Cast", length, to=1), graph.constant(1.0))
        deviation = graph.add("Sqrt", graph.add("Div", squares, others))
        return graph.add("Concat", mean, deviation, axis=1)

    def _embedded(self, statistics: str) -> str:
        value = self._layers.convolved(statistics, "xvector.dense.linear")
        value = self._graph.add("Squeeze", value, self._graph.constant([2]))
        return self._layers.batch_normalized(value, "xvector.dense.nonlinear.batchnorm")
