"""Reading PyTorch checkpoints without PyTorch."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.engines.torch_files import checkpoint, lightning_checkpoint, packed
from shared.infra.errors import ModelError
from shared.models.conversion.checkpoints import LeftOut, read_checkpoint, tensors

GLOBAL = b"\x80\x02c"
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
"""A persistent id up to its number of items."""
TENSOR = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x04tQ"
"""A tensor of a storage of four items, up to its offset."""
AFTER = b"\x89NtR."


def read(content: bytes) -> Any:
    return read_checkpoint(io.BytesIO(content))


def test_tensors_of_a_state_dictionary_are_read() -> None:
    state = {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a.transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T.copy().T,
        "b.count": np.array(7, dtype=np.int64),
    }

    found = tensors(read(checkpoint(state)))

    assert found.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(found[name], array)


def test_objects_of_the_trainers_classes_are_left_out_where_that_is_asked_for() -> None:
    state = {"layer.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    content = lightning_checkpoint(state)
    with pytest.raises(ModelError, match=r"names pyannote\.audio\.core\.task\.Specifications"):
        read(content)

    found = read_checkpoint(io.BytesIO(content), leave_out_objects=True)

    assert found["epoch"] == 7
    assert isinstance(found["pyannote.audio"]["specifications"], LeftOut)
    np.testing.assert_array_equal(
        tensors(found["state_dict"])["layer.weight"], state["layer.weight"]
    )


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1/0",)


@pytest.mark.parametrize(
    "pickled",
    [
        pickle.dumps(Evil(), protocol=2),
        pickle.dumps(Evil(), protocol=4),
        GLOBAL + b"os\nsystem\n(X\x04\x00\x00\x00truetR.",
        GLOBAL + b"torch.hub\nload\n(tR.",
        GLOBAL + b"collections\nOrderedDict\n(X\x01\x00\x00\x00atR.",
        GLOBAL + b"torch\nFloatStorage\n)R.",
        GLOBAL + b"collections\nOrderedDict\n)\x81.",
        b"(ios\nsystem\n.",
        b"\x80\x02X\x01\x00\x00\x00aX\x01\x00\x00\x00b\x86R.",
        b"\x82\x01.",
    ],
    ids=[
        *("evil", "evil with frames", "os.system", "another name of torch", "with an argument"),
        *("a called storage", "an object", "an instance", "a called string", "an extension"),
    ],
)
def test_pickle_that_would_call_something_is_refused(pickled: bytes) -> None:
    with pytest.raises(ModelError):
        read(packed(pickled))


class Telltale:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_objects_that_are_left_out_are_not_called(tmp_path: Path) -> None:
    traces = {"state_dict": {}, "hook": Telltale(tmp_path / "unpickled")}
    pickled = pickle.dumps(traces, protocol=2)

    found = read_checkpoint(io.BytesIO(packed(pickled)), leave_out_objects=True)

    assert isinstance(found["hook"], LeftOut)
    assert not (tmp_path / "unpickled").exists()
    pickle.loads(pickled)
    assert (tmp_path / "unpickled").exists()


@pytest.mark.parametrize(
    "numbers",
    [
        b"K\x00K\x05\x85K\x01\x85",
        b"K\x01K\x04\x85K\x01\x85",
        b"K\x00K\x02K\x02\x86K\x03K\x01\x86",
        b"K\x00K\x02K\x02\x86K\x00K\x01\x86" + b"",
        b"J\xff\xff\xff\xffK\x02\x85K\x01\x85",
        b"K\x00K\x02\x85J\xff\xff\xff\xff\x85",
        b"K\x00J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86K\x00K\x00\x86",
        b"K\x00K\x02K\x02\x86K\x01\x85",
        b"K\x00X\x01\x00\x00\x00a\x85K\x01\x85",
    ],
)
def test_tensor_outside_of_its_storage_is_refused(numbers: bytes) -> None:
    within = b"K\x00K\x02K\x02\x86K\x02K\x01\x86"
    assert read(packed(TENSOR + within + AFTER, [bytes(16)])).shape == (2, 2)
    if numbers == b"K\x00K\x02K\x02\x86K\x00K\x01\x86":  # a repeated row stays inside
        assert read(packed(TENSOR + numbers + AFTER, [bytes(16)])).shape == (2, 2)
        return
    with pytest.raises(ModelError):
        read(packed(TENSOR + numbers + AFTER, [bytes(16)]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no zip file",
        packed(b""),
        packed(b"\x80\x02"),
        packed(b"\x80\x02u."),
        packed(b"\x80\x02h\x07."),
        packed(b"\x80\x02X\xff\xff\xff\xffa."),
        packed(b"\x80\x02K\x01K\x02s."),
        packed(TENSOR + b"K\x00K\x02\x85K\x01\x85" + AFTER),
        packed(TENSOR + b"K\x00K\x02\x85K\x01\x85" + AFTER, [bytes(12)]),
        packed(pickle.dumps({}, protocol=2), squeezed=True),
    ],
)
def test_damaged_checkpoint_is_told_as_such(content: bytes) -> None:
    with pytest.raises(ModelError):
        read(content)


def test_other_objects_are_no_state_dictionary() -> None:
    with pytest.raises(ModelError):
        tensors(read(packed(pickle.dumps({"epoch": 3}, protocol=2))))
