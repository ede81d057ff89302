"""A reader of PyTorch checkpoints that builds plain values and arrays, and calls nothing.

A checkpoint (``torch.save``) is an uncompressed zip file: a pickle that describes the objects, and
a file of raw bytes for each storage. ``pickle`` would import and call what the pickle names. This
reader walks the opcodes itself and knows only those that ``torch.save`` writes for dictionaries,
lists, tuples, numbers, strings and tensors. It fails on any other.

Checkpoints of PyTorch Lightning also describe the training: objects of the trainer's classes. They
are left out where that is asked for, and nothing of theirs is imported or called either.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, NamedTuple, TypeVar
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
import numpy.typing as npt

from shared.infra.errors import ModelError

MAX_PICKLE_BYTES = 4 * 2**20
"""Of the description of the objects; a network of a thousand tensors needs a tenth of it."""
MAX_STORAGE_BYTES = 2**30
"""Of all tensors of a checkpoint together."""

_ITEM_TYPES: Mapping[Any, np.dtype[Any]] = {
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}
_ORDERED_DICT = ("collections", "OrderedDict")
_TENSOR = ("torch._utils", "_rebuild_tensor_v2")
_NAMES = {_ORDERED_DICT, _TENSOR, *_ITEM_TYPES}

_NEW_VALUES: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}

_T = TypeVar("_T")
Array = npt.NDArray[Any]


class _Name(NamedTuple):
    """A class or function that the pickle names. It is never imported."""

    module: str
    name: str


class LeftOut:
    """Stands where an object of another class would be."""


@dataclass(frozen=True, slots=True)
class _Storage:
    items: Array
    """Shape (n_items,)."""


def read_checkpoint(file: IO[bytes], *, leave_out_objects: bool = False) -> Any:
    """Return the objects of a checkpoint: dictionaries, lists, tuples, numbers, strings, arrays.

    Args:
        file: the checkpoint.
        leave_out_objects: put ``LeftOut`` in the place of all other objects, instead of failing.

    Raises:
        ModelError: it is damaged, or has anything else in it.
    """
    try:
        with ZipFile(file) as archive:
            return _Reader(archive).read(leave_out_objects)
    except (BadZipFile, KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError("the checkpoint is damaged") from error


class _Reader:
    def __init__(self, archive: ZipFile) -> None:
        self._archive = archive
        self._folder = archive.namelist()[0].partition("/")[0]
        self._storage_bytes = 0
        self._storages: dict[str, _Storage] = {}

    def read(self, leave_out_objects: bool) -> Any:
        pickled = self._member("data.pkl", MAX_PICKLE_BYTES)
        machine = _Machine(self._storage, leave_out_objects)
        for opcode, argument, _ in pickletools.genops(pickled):
            machine.step(opcode.name, argument)
        return machine.stack[-1]

    def _member(self, name: str, max_bytes: int) -> bytes:
        info = self._archive.getinfo(f"{self._folder}/{name}")
        if info.compress_type != ZIP_STORED or info.file_size > max_bytes:
            raise ModelError(f"the checkpoint's {name} is compressed or too large")
        return self._archive.read(info)

    def _storage(self, reference: Any) -> _Storage:
        """Return the storage that a persistent id names: (kind, type, key, device, n_items)."""
        kind, item_type, key, _, n_items = reference
        if kind != "storage" or item_type not in _ITEM_TYPES or not isinstance(key, str):
            raise ModelError(f"the checkpoint has a storage of an unknown kind: {item_type}")
        if key not in self._storages:
            content = self._member(f"data/{key}", MAX_STORAGE_BYTES - self._storage_bytes)
            self._storage_bytes += len(content)
            items = np.frombuffer(content, _ITEM_TYPES[item_type])
            if len(items) != n_items:
                raise ModelError("the checkpoint has a storage of another size than it says")
            self._storages[key] = _Storage(items)
        return self._storages[key]


class _Machine:
    """The part of the pickle machine that plain values and tensors need."""

    def __init__(self, load_storage: Any, leave_out_objects: bool) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._load_storage = load_storage
        self._leaves_out_objects = leave_out_objects

    def step(self, opcode: str, argument: Any) -> None:
        """Carry out one opcode.

        Raises:
            ModelError: it is none of those that plain values need, or names something else.
        """
        stack = self.stack
        if opcode in _NEW_VALUES:
            stack.append(_NEW_VALUES[opcode]())
            return
        match opcode:
            case "PROTO" | "STOP":
                pass
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE":
                stack.append(argument)
            case "MARK":
                self._marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(self._pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(opcode[-1]))))
            case "APPEND" | "APPENDS":
                values = self._pop(1) if opcode == "APPEND" else self._pop_to_mark()
                if not self._is_left_out(stack[-1]):
                    _typed(stack[-1], list).extend(values)
            case "SETITEM" | "SETITEMS":
                pairs = self._pop(2) if opcode == "SETITEM" else self._pop_to_mark()
                if not self._is_left_out(stack[-1]):
                    _typed(stack[-1], dict).update(zip(pairs[::2], pairs[1::2], strict=True))
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "GLOBAL":
                name = _Name(*argument.split(" "))
                if name in _NAMES:
                    stack.append(name)
                elif self._leaves_out_objects:
                    stack.append(LeftOut())
                else:
                    raise ModelError(f"the checkpoint names {name.module}.{name.name}")
            case "BINPERSID":
                (reference,) = self._pop(1)
                stack.append(self._load_storage(reference))
            case "REDUCE":
                name, arguments = self._pop(2)
                stack.append(name if self._is_left_out(name) else _build(name, arguments))
            case "NEWOBJ" if self._leaves_out_objects:
                self._pop(2)
                stack.append(LeftOut())
            case "BUILD":
                # The state of an OrderedDict: torch notes the versions of modules there.
                self._pop(1)
                if not self._is_left_out(stack[-1]):
                    _typed(stack[-1], dict)
            case _:
                raise ModelError(f"the checkpoint's pickle has the opcode {opcode}")

    def _is_left_out(self, value: Any) -> bool:
        return self._leaves_out_objects and isinstance(value, LeftOut)

    def _pop(self, n: int) -> list[Any]:
        values = self.stack[-n:]
        if len(values) < n or (self._marks and len(self.stack) - n < self._marks[-1]):
            raise ValueError("the stack is too short")
        del self.stack[-n:]
        return values

    def _pop_to_mark(self) -> list[Any]:
        mark = self._marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values


def _typed(value: Any, kind: type[_T]) -> _T:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} where a {kind.__name__} must be")
    return value


def _build(name: Any, arguments: Any) -> Any:
    if name == _ORDERED_DICT and arguments == ():
        return {}
    if name == _TENSOR:
        storage, offset, shape, strides, *_ = arguments
        return _tensor(_typed(storage, _Storage).items, offset, shape, strides)
    raise ModelError("the checkpoint calls something else than a tensor's constructor")


def _tensor(items: Array, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """Return the view of a storage's items that a tensor is, copied.

    Raises:
        ModelError: it reaches outside of the storage.
    """
    numbers = [offset, *shape, *strides]
    if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ModelError("the checkpoint has a tensor of an impossible shape")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    n_items = int(np.prod([int(n) for n in shape], dtype=object))
    if n_items > len(items) or (n_items and last >= len(items)):
        raise ModelError("the checkpoint has a tensor that is larger than its storage")
    if not n_items:
        return np.empty(shape, items.dtype)
    byte_strides = [stride * items.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(items[offset:], shape, byte_strides).copy()


def tensors(state: Any) -> Mapping[str, Array]:
    """Return the tensors of a state dictionary by name.

    Raises:
        ModelError: it is none.
    """
    if not isinstance(state, dict) or not all(isinstance(v, np.ndarray) for v in state.values()):
        raise ModelError("the checkpoint is no dictionary of tensors")
    return state
