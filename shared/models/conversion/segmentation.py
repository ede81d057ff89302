"""pyannote's segmentation-3.0 as an ONNX graph: who of at most three speaks, 59 times a second.

The network (PyanNet) is https://github.com/pyannote/pyannote-audio's (MIT): a SincNet, four
bidirectional LSTMs and three linear layers.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from shared.infra.onnx_format import Graph
from shared.models.conversion.checkpoints import Array

SAMPLE_RATE = 16_000
STRIDE = 10
"""Samples between two values of the first filter bank."""
MIN_LOW_HZ = MIN_BAND_HZ = 50.0
N_LAYERS = 4
HIDDEN = 128
LEAK = 0.01
EPSILON = 1e-5

Weights = Mapping[str, Array]


def segmentation_graph(weights: Weights) -> bytes:
    """Return the ONNX file.

    Its input 'audio' has shape (n_windows, n_samples). Its output 'log_probabilities' has shape
    (n_windows, n_frames, 7): nobody, the speakers 1, 2, 3, and the pairs 1+2, 1+3, 2+3.

    Raises:
        KeyError: a tensor is missing.
    """
    graph = Graph("segmentation-3.0")
    value = graph.add("Unsqueeze", "audio", graph.constant([1]))
    value = _normalized(graph, value, weights, "sincnet.wav_norm1d")
    value = graph.add("Conv", value, graph.constant(_filters(weights)), strides=[STRIDE])
    value = graph.add("Abs", value)
    value = _pooled(graph, value, weights, 0)
    for layer in (1, 2):
        name = f"sincnet.conv1d.{layer}"
        kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        value = graph.add("Conv", value, graph.constant(kernel), graph.constant(bias))
        value = _pooled(graph, value, weights, layer)
    value = graph.add("Transpose", value, perm=[2, 0, 1])  # (n_frames, n_windows, n_features)
    for layer in range(N_LAYERS):
        value = _lstm(graph, value, weights, layer)
    value = graph.add("Transpose", value, perm=[1, 0, 2])
    for name in ("linear.0", "linear.1"):
        value = graph.add("LeakyRelu", _linear(graph, value, weights, name), alpha=LEAK)
    value = graph.add("LogSoftmax", _linear(graph, value, weights, "classifier"), axis=-1)
    n_classes = len(weights["classifier.bias"])
    return graph.to_bytes(
        {"audio": ("n_windows", "n_samples")},
        {"log_probabilities": (value, ("n_windows", "n_frames", n_classes))},
    )


def _filters(weights: Weights) -> npt.NDArray[np.float32]:
    """Return SincNet's band-pass filters, shape (80, 1, 251): 40 even ones and 40 odd ones."""
    name = "sincnet.conv1d.0.filterbank"
    low = MIN_LOW_HZ + np.abs(weights[f"{name}.low_hz_"].astype(np.float64))
    band = MIN_BAND_HZ + np.abs(weights[f"{name}.band_hz_"].astype(np.float64))
    high = np.clip(low + band, MIN_LOW_HZ, SAMPLE_RATE / 2)
    times = weights[f"{name}.n_"].astype(np.float64)
    scale = weights[f"{name}.window_"] / (times / 2)
    even = (np.sin(high @ times) - np.sin(low @ times)) * scale
    odd = (np.cos(low @ times) - np.cos(high @ times)) * scale
    width = 2 * (high - low)
    filters = np.concatenate(
        [
            np.concatenate([even, width, even[:, ::-1]], axis=1) / width,
            np.concatenate([odd, np.zeros_like(width), -odd[:, ::-1]], axis=1) / width,
        ]
    )
    return filters[:, np.newaxis].astype(np.float32)


def _normalized(graph: Graph, value: str, weights: Weights, name: str) -> str:
    scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
    constants = graph.constant(scale), graph.constant(shift)
    return graph.add("InstanceNormalization", value, *constants, epsilon=EPSILON)


def _pooled(graph: Graph, value: str, weights: Weights, layer: int) -> str:
    value = graph.add("MaxPool", value, kernel_shape=[3], strides=[3])
    value = _normalized(graph, value, weights, f"sincnet.norm1d.{layer}")
    return graph.add("LeakyRelu", value, alpha=LEAK)


def _lstm(graph: Graph, value: str, weights: Weights, layer: int) -> str:
    """Add a bidirectional LSTM: (n_frames, n_windows, n_features) to as many frames of 256."""

    def both(kind: str) -> list[Array]:
        return [_gates(weights[f"lstm.{kind}_l{layer}{side}"]) for side in ("", "_reverse")]

    biases = [np.concatenate(pair) for pair in zip(both("bias_ih"), both("bias_hh"), strict=True)]
    kernels = (np.stack(each) for each in (both("weight_ih"), both("weight_hh"), biases))
    constants = [graph.constant(kernel) for kernel in kernels]
    value = graph.add("LSTM", value, *constants, direction="bidirectional", hidden_size=HIDDEN)
    value = graph.add("Transpose", value, perm=[0, 2, 1, 3])
    return graph.add("Reshape", value, graph.constant([0, 0, 2 * HIDDEN]))


def _gates(rows: Array) -> Array:
    """Return gates in ONNX's order (input, output, forget, cell) from PyTorch's (i, f, c, o)."""
    inputs, forget, cell, output = np.split(rows, 4)
    return np.concatenate([inputs, output, forget, cell])


def _linear(graph: Graph, value: str, weights: Weights, name: str) -> str:
    value = graph.add("MatMul", value, graph.constant(weights[f"{name}.weight"].T))
    return graph.add("Add", value, graph.constant(weights[f"{name}.bias"]))
