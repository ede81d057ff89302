"""ONNX files: what is written is what is read, and what is no ONNX file is refused."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.infra.onnx_format import Graph, read_tensors


def written() -> bytes:
    """A network that adds 1 to 6, and multiplies by 2."""
    graph = Graph("written")
    whole = graph.constant([[1, 2, 3], [4, 5, 6]])
    added = graph.add("Add", "x", graph.constant(np.arange(1.0, 7.0).reshape(2, 3)))
    doubled = graph.add("Mul", added, graph.constant(2.0))
    numbers = graph.add("Cast", whole, to=1)
    return graph.to_bytes({"x": ("rows", 3)}, {"y": (doubled, ("rows", 3)), "n": (numbers, (2, 3))})


def test_weights_are_read_as_they_were_written() -> None:
    tensors = list(read_tensors(written()).values())

    assert [tensor.tolist() for tensor in tensors] == [[[1, 2, 3], [4, 5, 6]], 2.0]
    assert {tensor.dtype for tensor in tensors} == {np.dtype(np.float32)}


def test_a_network_that_was_written_is_run() -> None:
    session = onnxruntime.InferenceSession(written())

    y, n = session.run(None, {"x": np.zeros((2, 3), np.float32)})

    assert y.tolist() == [[2, 4, 6], [8, 10, 12]]
    assert n.tolist() == [[1, 2, 3], [4, 5, 6]]


@given(st.integers(1, len(written()) - 1))
def test_a_file_that_is_cut_off_is_refused(end: int) -> None:
    whole = written()
    try:
        tensors = read_tensors(whole[:end])
    except ValueError:
        return
    # It was cut between two fields of the file: before its graph, or behind it.
    assert list(tensors) in ([], list(read_tensors(whole)))


@given(st.binary(max_size=64))
def test_other_bytes_are_refused_or_have_no_weights(data: bytes) -> None:
    try:
        assert read_tensors(data) == {}
    except ValueError:
        return


def test_a_field_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind 3"):
        read_tensors(b"\x0b")
