"""Write a transducer of the shape of Parakeet TDT 0.6B with random weights, quantised to int8.

``python -m bench.engines.transducer_shape FOLDER`` writes the files of an export, and a catalogue
with the entry ``random-tdt-0.6b``. It needs the packages of requirements/train.txt.

The arithmetic is that of the published network: a fast conformer of 24 layers of width 1,024 that
merges 8 frames, a prediction network of two LSTM layers of 640, and a joint over 8,193 tokens and
five durations. Matrices are multiplied in int8, convolutions in float32. Its words mean nothing,
but they are as many as speech has, whatever the sound: each step emits a token and goes on by four
frames, 3.1 tokens a second. Where a model says nothing, Longhand would hear the sound again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from shared.models.weight_files import digest, present

WIDTH, INNER, HEADS, LAYERS, KERNEL = 1024, 4096, 8, 24, 9
BANDS, CHANNELS, SUBSAMPLING = 128, 256, 8
STATE, N_TOKENS, N_DURATIONS = 640, 8193, 5
OPSET = 17
CERTAIN = 1e4
"""A logit beside which no other counts."""

CATALOGUE = """\
[languages]
english = ["en"]

[models."random-tdt-0.6b"]
description = "The shape of Parakeet TDT 0.6B with random weights."
engine = "onnx-transducer"
source = "file:weights"
revision = "{revision}"
languages = "english"
window_s = 30.0
vad = "silero"
quantization = "int8"
size_bytes = 670_000_000
"""


class Graph:
    """Nodes and weights, added one after another."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(0)

    def add(self, kind: str, *inputs: str, n_outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; return the name of its output, or the names of several."""
        outputs = [f"{kind}_{len(self.nodes)}_{i}" for i in range(n_outputs)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs[0] if n_outputs == 1 else outputs

    def weight(self, values: Any, dtype: Any = np.float32) -> str:
        """Add a constant; return its name."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def normal(self, *shape: int, n_in: int) -> str:
        """Add random weights that keep the variance of ``n_in`` summed values."""
        return self.weight(self._rng.normal(0, n_in**-0.5, shape))

    def linear(self, x: str, n_in: int, n_out: int) -> str:
        """Multiply with an int8 matrix, as dynamic quantisation does."""
        matrix = self._rng.integers(-127, 128, (n_in, n_out), np.int8)
        scale = self.weight(n_in**-0.5 / 73)  # the standard deviation of such integers
        values, x_scale, zero = self.add("DynamicQuantizeLinear", x, n_outputs=3)
        whole = self.add("MatMulInteger", values, self.weight(matrix, np.int8), zero)
        whole = self.add("Cast", whole, to=TensorProto.FLOAT)
        scaled = self.add("Mul", whole, self.add("Mul", x_scale, scale))
        return str(self.add("Add", scaled, self.weight(np.zeros(n_out))))

    def norm(self, x: str) -> str:
        """Normalise the last axis."""
        ones, zeros = self.weight(np.ones(WIDTH)), self.weight(np.zeros(WIDTH))
        return str(self.add("LayerNormalization", x, ones, zeros, axis=-1))

    def silu(self, x: str) -> str:
        """Multiply with its own sigmoid."""
        return str(self.add("Mul", x, self.add("Sigmoid", x)))

    def shape(self, x: str, *axes: int) -> str:
        """Return the lengths of some axes, as a vector."""
        return str(self.add("Gather", self.add("Shape", x), self.weight(axes, np.int64)))


def encoder() -> onnx.ModelProto:
    """Return the fast conformer."""
    g = Graph()
    x = g.add("Transpose", "audio_signal", perm=[0, 2, 1])
    x = g.add("Unsqueeze", x, g.weight([1], np.int64))
    striding = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    x = g.add("Relu", g.add("Conv", x, g.normal(CHANNELS, 1, 3, 3, n_in=9), **striding))
    for _ in range(2):
        x = g.add("Conv", x, g.normal(CHANNELS, 1, 3, 3, n_in=9), group=CHANNELS, **striding)
        x = g.add("Relu", g.add("Conv", x, g.normal(CHANNELS, CHANNELS, 1, 1, n_in=CHANNELS)))
    x = g.add("Transpose", x, perm=[0, 2, 1, 3])
    x = g.add("Reshape", x, g.weight([0, 0, -1], np.int64))
    x = g.linear(x, CHANNELS * BANDS // SUBSAMPLING, WIDTH)
    table = g.normal(1, 4096, WIDTH, n_in=1)
    for _ in range(LAYERS):
        x = _block(g, x, table)
    outputs = g.add("Transpose", x, perm=[0, 2, 1])
    eight, one = g.weight(SUBSAMPLING, np.int64), g.weight(1, np.int64)
    lengths = g.add("Add", g.add("Div", g.add("Sub", "length", one), eight), one)
    g.nodes += [
        helper.make_node("Identity", [outputs], ["outputs"]),
        helper.make_node("Identity", [lengths], ["encoded_lengths"]),
    ]
    return _model(
        g,
        [
            ("audio_signal", TensorProto.FLOAT, ["n", BANDS, "t"]),
            ("length", TensorProto.INT64, ["n"]),
        ],
        [("outputs", TensorProto.FLOAT, None), ("encoded_lengths", TensorProto.INT64, None)],
    )


def _block(g: Graph, x: str, table: str) -> str:
    half = g.weight(0.5)
    x = g.add("Add", x, g.add("Mul", half, _feed_forward(g, x)))
    x = g.add("Add", x, _attention(g, x, table))
    x = g.add("Add", x, _convolution(g, x))
    x = g.add("Add", x, g.add("Mul", half, _feed_forward(g, x)))
    return g.norm(x)


def _feed_forward(g: Graph, x: str) -> str:
    return g.linear(g.silu(g.linear(g.norm(x), WIDTH, INNER)), INNER, WIDTH)


def _attention(g: Graph, x: str, table: str) -> str:
    """Attend with relative positions, as Transformer-XL does; a table has their vectors."""
    x = g.norm(x)
    size = WIDTH // HEADS

    def heads(y: str) -> str:
        y = g.add("Reshape", y, g.weight([0, 0, HEADS, size], np.int64))
        return str(g.add("Transpose", y, perm=[0, 2, 1, 3]))

    query, key, value = (heads(g.linear(x, WIDTH, WIDTH)) for _ in range(3))
    n_frames = g.shape(x, 1)
    n_places = g.add(
        "Sub", g.add("Mul", n_frames, g.weight([2], np.int64)), g.weight([1], np.int64)
    )
    end = g.add("Add", g.weight([0], np.int64), n_places)
    start, axis = g.weight([0], np.int64), g.weight([1], np.int64)
    places = heads(g.linear(g.add("Slice", table, start, end, axis), WIDTH, WIDTH))
    turned = [0, 1, 3, 2]
    by_content = g.add("MatMul", query, g.add("Transpose", key, perm=turned))
    by_place = g.add("MatMul", query, g.add("Transpose", places, perm=turned))
    padded = g.add("Pad", by_place, g.weight([0, 0, 0, 1, 0, 0, 0, 0], np.int64))
    n_items, minus = g.shape(x, 0), g.weight([-1], np.int64)
    shape = g.add("Concat", n_items, g.weight([HEADS], np.int64), minus, n_frames, axis=0)
    shifted = g.add("Reshape", padded, shape)
    last = g.weight([9_999_999], np.int64)
    shifted = g.add("Slice", shifted, axis, last, g.weight([2], np.int64))
    shape = g.add("Concat", n_items, g.weight([HEADS], np.int64), n_frames, n_places, axis=0)
    shifted = g.add("Reshape", shifted, shape)
    shifted = g.add("Slice", shifted, start, n_frames, g.weight([3], np.int64))
    scores = g.add("Mul", g.add("Add", by_content, shifted), g.weight(size**-0.5))
    mixed = g.add("MatMul", g.add("Softmax", scores, axis=-1), value)
    mixed = g.add("Transpose", mixed, perm=[0, 2, 1, 3])
    return g.linear(g.add("Reshape", mixed, g.weight([0, 0, WIDTH], np.int64)), WIDTH, WIDTH)


def _convolution(g: Graph, x: str) -> str:
    wide = g.linear(g.norm(x), WIDTH, 2 * WIDTH)
    halves = g.weight([WIDTH, WIDTH], np.int64)
    kept, gate = g.add("Split", wide, halves, n_outputs=2, axis=-1)
    x = g.add("Transpose", g.add("Mul", kept, g.add("Sigmoid", gate)), perm=[0, 2, 1])
    pads = [KERNEL // 2, KERNEL // 2]
    x = g.silu(g.add("Conv", x, g.normal(WIDTH, 1, KERNEL, n_in=KERNEL), group=WIDTH, pads=pads))
    return g.linear(g.add("Transpose", x, perm=[0, 2, 1]), WIDTH, WIDTH)


def decoder_joint() -> onnx.ModelProto:
    """Return prediction network and joint, in float32."""
    g = Graph()
    x = g.add("Gather", g.normal(N_TOKENS, STATE, n_in=1), "targets")
    x = g.add("Transpose", x, perm=[1, 0, 2])
    after: list[list[str]] = [[], []]
    for layer in range(2):
        one = g.weight([layer], np.int64)
        states = [g.add("Gather", f"input_states_{i}", one, axis=0) for i in (1, 2)]
        matrices = [g.normal(1, 4 * STATE, STATE, n_in=STATE) for _ in range(2)]
        x, *ends = g.add("LSTM", x, *matrices, "", "", *states, n_outputs=3, hidden_size=STATE)
        x = g.add("Squeeze", x, g.weight([1], np.int64))
        for ended, end in zip(after, ends, strict=True):
            ended.append(end)
    of_text = g.add(
        "MatMul", g.add("Transpose", x, perm=[1, 0, 2]), g.normal(STATE, STATE, n_in=STATE)
    )
    sound = g.add("Transpose", "encoder_outputs", perm=[0, 2, 1])
    of_sound = g.add("MatMul", sound, g.normal(WIDTH, STATE, n_in=WIDTH))
    joined = g.add(
        "Add",
        g.add("Unsqueeze", of_sound, g.weight([2], np.int64)),
        g.add("Unsqueeze", of_text, g.weight([1], np.int64)),
    )
    n_classes = N_TOKENS + N_DURATIONS
    bias = np.zeros(n_classes)
    bias[N_TOKENS - 1], bias[-1] = -CERTAIN, CERTAIN  # never the blank, always the longest duration
    head = g.normal(STATE, n_classes, n_in=STATE)
    logits = g.add("Add", g.add("MatMul", g.add("Relu", joined), head), g.weight(bias))
    g.nodes += [
        helper.make_node("Identity", [logits], ["outputs"]),
        helper.make_node("Identity", ["target_length"], ["prednet_lengths"]),
        *(
            helper.make_node("Concat", ended, [f"output_states_{i}"], axis=0)
            for i, ended in enumerate(after, 1)
        ),
    ]
    state = [2, "n", STATE]
    return _model(
        g,
        [
            ("encoder_outputs", TensorProto.FLOAT, ["n", WIDTH, "t"]),
            ("targets", TensorProto.INT32, ["n", "u"]),
            ("target_length", TensorProto.INT32, ["n"]),
            ("input_states_1", TensorProto.FLOAT, state),
            ("input_states_2", TensorProto.FLOAT, state),
        ],
        [
            ("outputs", TensorProto.FLOAT, None),
            ("prednet_lengths", TensorProto.INT32, None),
            ("output_states_1", TensorProto.FLOAT, None),
            ("output_states_2", TensorProto.FLOAT, None),
        ],
    )


def _model(
    g: Graph, inputs: list[tuple[str, int, Any]], outputs: list[tuple[str, int, Any]]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        g.nodes,
        "random",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        g.weights,
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10)


def write(folder: Path) -> None:
    """Write all files."""
    weights = folder / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    lines = [f"\u2581w{i} {i}" for i in range(N_TOKENS - 1)] + [f"<blk> {N_TOKENS - 1}"]
    (weights / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {"model_type": "nemo-conformer-tdt", "features_size": BANDS}
    config |= {"subsampling_factor": SUBSAMPLING}
    (weights / "config.json").write_text(json.dumps(config) + "\n", encoding="utf-8")
    onnx.save(encoder(), weights / "encoder-model.int8.onnx")
    whole = weights / "decoder_joint-model.onnx"
    onnx.save(decoder_joint(), whole)
    quantize_dynamic(whole, weights / "decoder_joint-model.int8.onnx", weight_type=QuantType.QInt8)
    whole.unlink()
    revision = digest(weights, present("onnx-transducer int8", weights))
    (folder / "models.toml").write_text(CATALOGUE.format(revision=revision), encoding="utf-8")


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)


if __name__ == "__main__":
    main()
