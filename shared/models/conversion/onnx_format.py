"""A writer of ONNX files: the few messages of onnx.proto that a graph of tensors needs.

The bytes depend on the graph alone, so that a file is known by its digest.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

IR_VERSION = 8
OPSET = 17

Attribute = int | float | str | Sequence[int]
Dimension = int | str

_FLOAT, _INT64 = 1, 7
_ELEMENT_TYPES = {np.dtype(np.float32): _FLOAT, np.dtype(np.int64): _INT64}


class Graph:
    """A graph under construction. Values are named by strings."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[bytes] = []
        self._tensors: list[bytes] = []
        self._n_values = 0

    def constant(self, value: npt.ArrayLike) -> str:
        """Add a tensor of float32 or int64 and return its name."""
        array = np.asarray(value)
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        name = self._new_name()
        self._tensors.append(
            b"".join(_integer(1, size) for size in array.shape)
            + _integer(2, _ELEMENT_TYPES[array.dtype])
            + _text(8, name)
            + _field(9, array.astype(array.dtype.newbyteorder("<")).tobytes())
        )
        return name

    def add(self, operator: str, *inputs: str, **attributes: Attribute) -> str:
        """Add an operator with one output, and return the output's name; '' is a missing input."""
        output = self._new_name()
        self._nodes.append(_node(operator, inputs, output, attributes))
        return output

    def to_bytes(
        self,
        inputs: Mapping[str, Sequence[Dimension]],
        outputs: Mapping[str, tuple[str, Sequence[Dimension]]],
    ) -> bytes:
        """Return the ONNX file.

        ``inputs`` are shapes by name; a dimension with a name is open. ``outputs`` are values of
        the graph and their shapes by name. All are float32.
        """
        for name, (value, _) in outputs.items():
            self._nodes.append(_node("Identity", (value,), name, {}))
        graph = b"".join(_field(1, node) for node in self._nodes)
        graph += _text(2, self._name)
        graph += b"".join(_field(5, tensor) for tensor in self._tensors)
        graph += b"".join(_field(11, _value(name, shape)) for name, shape in inputs.items())
        graph += b"".join(_field(12, _value(name, shape)) for name, (_, shape) in outputs.items())
        operators = _text(1, "") + _integer(2, OPSET)
        return _integer(1, IR_VERSION) + _field(7, graph) + _field(8, operators)

    def _new_name(self) -> str:
        self._n_values += 1
        return f"v{self._n_values}"


def _node(
    operator: str, inputs: Iterable[str], output: str, attributes: Mapping[str, Attribute]
) -> bytes:
    node = b"".join(_text(1, name) for name in inputs) + _text(2, output) + _text(4, operator)
    return node + b"".join(_field(5, _attribute(*each)) for each in attributes.items())


def _attribute(name: str, value: Attribute) -> bytes:
    start = _text(1, name)
    if isinstance(value, float):
        return start + _key(2, 5) + np.float32(value).tobytes() + _integer(20, 1)
    if isinstance(value, int):
        return start + _integer(3, value) + _integer(20, 2)
    if isinstance(value, str):
        return start + _text(4, value) + _integer(20, 3)
    return start + b"".join(_integer(8, each) for each in value) + _integer(20, 7)


def _value(name: str, shape: Sequence[Dimension]) -> bytes:
    dimensions = b"".join(
        _field(1, _text(2, size) if isinstance(size, str) else _integer(1, size)) for size in shape
    )
    tensor_type = _integer(1, _FLOAT) + _field(2, dimensions)
    return _text(1, name) + _field(2, _field(1, tensor_type))


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, content: bytes) -> bytes:
    return _key(number, 2) + _varint(len(content)) + content


def _integer(number: int, value: int) -> bytes:
    return _key(number, 0) + _varint(value)


def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    """Return an integer as protobuf writes it; negative ones as 64 bits."""
    rest, written = value % 2**64, bytearray()
    while rest > 127:
        written.append(rest & 127 | 128)
        rest >>= 7
    written.append(rest)
    return bytes(written)
