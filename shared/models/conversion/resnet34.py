"""WeSpeaker's ResNet34 as an ONNX graph: what a voice's embedding is pooled from.

The network is https://github.com/wenet-e2e/wespeaker's (Apache-2.0), as pyannote.audio (MIT) wraps
it: a residual network over frequency and time. What comes after it, pooling over the frames of one
speaker and a linear layer, is no part of the graph, so that it runs once for all speakers.
"""

from collections.abc import Mapping

from shared.infra.onnx_format import Graph
from shared.models.conversion.checkpoints import Array
from shared.models.conversion.layers import Layers

BLOCKS = (3, 4, 6, 3)
"""Residual blocks of each layer; the first block of all layers but the first halves both axes."""
N_MELS = 80


def resnet34_graph(weights: Mapping[str, Array]) -> bytes:
    """Return the ONNX file.

    Its input 'features' has shape (n_items, n_frames, 80): log mel energies every 10 ms, less their
    mean over time. Its output 'frames' has shape (n_items, 2560, n_frames / 8 rounded up).

    Raises:
        KeyError: a tensor is missing.
    """
    graph = Graph("resnet34")
    layers = Layers(graph, weights)
    value = graph.add("Transpose", "features", perm=[0, 2, 1])
    value = graph.add("Unsqueeze", value, graph.constant([1]))  # (n_items, 1, n_mels, n_frames)
    value = layers.plane(value, "resnet.conv1", "resnet.bn1", is_activated=True)
    for layer, n_blocks in enumerate(BLOCKS, start=1):
        for block in range(n_blocks):
            strides = (2, 2) if layer > 1 and block == 0 else (1, 1)
            value = layers.residual(value, f"resnet.layer{layer}.{block}", strides)
    n_pooled = weights["resnet.seg_1.weight"].shape[1] // 2  # means and deviations
    value = graph.add("Reshape", value, graph.constant([0, n_pooled, -1]))
    return graph.to_bytes(
        {"features": ("n_items", "n_frames", N_MELS)},
        {"frames": (value, ("n_items", n_pooled, "n_pooled_frames"))},
    )
