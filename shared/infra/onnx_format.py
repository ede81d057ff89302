"""ONNX files: the few messages of onnx.proto that a graph of tensors needs, written and read.

The bytes that are written depend on the graph alone, so that a file is known by its digest.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

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
        (output,) = self.add_of_several(operator, 1, *inputs, **attributes)
        return output

    def add_of_several(
        self, operator: str, n_outputs: int, *inputs: str, **attributes: Attribute
    ) -> tuple[str, ...]:
        """Add an operator, and return the names of its first outputs."""
        outputs = tuple(self._new_name() for _ in range(n_outputs))
        self._nodes.append(_node(operator, inputs, outputs, attributes))
        return outputs

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
            self._nodes.append(_node("Identity", (value,), (name,), {}))
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


def read_tensors(file: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights of an ONNX file by name: its constant tensors of float32.

    Raises:
        ValueError: it is not a whole file, or has weights in a form that is not known here.
    """
    found = {}
    for graph in _contents(memoryview(file), 7):
        for tensor in _contents(graph, 5):
            if list(_numbers(tensor, 2)) == [_FLOAT]:
                (name,), (raw,) = _contents(tensor, 8), _contents(tensor, 9)
                array = np.frombuffer(raw, np.dtype("<f4"))
                found[bytes(name).decode()] = array.reshape([*_numbers(tensor, 1)])
    return found


def _contents(message: memoryview, number: int) -> Iterator[memoryview]:
    """Return what a message has in a field of bytes, text or messages."""
    for key, content in _fields(message):
        if key == number and isinstance(content, memoryview):
            yield content


def _numbers(message: memoryview, number: int) -> Iterator[int]:
    """Return the integers of a field."""
    for key, content in _fields(message):
        if key == number and isinstance(content, int):
            yield content


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Return a message's fields, each with its number.

    Raises:
        ValueError: it ends within a field, or has a field of a kind that protobuf has given up.
    """
    rest = message
    while rest:
        key, rest = _read_varint(rest)
        number, wire_type = key >> 3, key & 7
        match wire_type:
            case 0:
                value, rest = _read_varint(rest)
                yield number, value
                continue
            case 1:
                n_bytes = 8
            case 2:
                n_bytes, rest = _read_varint(rest)
            case 5:
                n_bytes = 4
            case _:
                raise ValueError(f"not protobuf: a field of kind {wire_type}")
        if n_bytes > len(rest):
            raise ValueError("not protobuf: it is cut off")
        yield number, rest[:n_bytes]
        rest = rest[n_bytes:]


def _read_varint(data: memoryview) -> tuple[int, memoryview]:
    """Return the integer at the start of ``data``, and what follows."""
    value = 0
    for at, byte in enumerate(data[:10]):
        value |= (byte & 127) << 7 * at
        if byte < 128:
            return value, data[at + 1 :]
    raise ValueError("not protobuf: it is cut off")


def _node(
    operator: str,
    inputs: Iterable[str],
    outputs: Iterable[str],
    attributes: Mapping[str, Attribute],
) -> bytes:
    names = b"".join(_text(1, name) for name in inputs) + b"".join(_text(2, n) for n in outputs)
    node = names + _text(4, operator)
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
