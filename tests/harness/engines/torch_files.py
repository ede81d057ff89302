"""Checkpoints as ``torch.save`` writes them, without PyTorch, and such that it never writes."""

import io
from collections.abc import Mapping
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import numpy.typing as npt


def checkpoint(state: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return a checkpoint of a state dictionary; arrays are of float32 or int64."""
    storages: list[bytes] = []
    return packed(b"\x80\x02" + _state(state, storages) + b".", storages)


def lightning_checkpoint(state: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return a checkpoint as PyTorch Lightning saves a model of pyannote.audio.

    Beside the tensors it describes objects of pyannote.audio's classes.
    """
    storages: list[bytes] = []
    problem = b"cpyannote.audio.core.task\nProblem\nK\x01\x85R"
    classes = b"](" + _text("speaker#1") + _text("speaker#2") + b"e"
    fields = b"}(" + _text("problem") + problem + _text("classes") + classes + b"u"
    about = b"cpyannote.audio.core.task\nSpecifications\n)\x81" + fields + b"b"
    out = b"\x80\x02}(" + _text("epoch") + b"K\x07"
    out += _text("pyannote.audio") + b"}" + _text("specifications") + about + b"s"
    out += _text("state_dict") + _state(state, storages)
    return packed(out + b"u.", storages)


def _state(state: Mapping[str, npt.NDArray[Any]], storages: list[bytes]) -> bytes:
    """Return the opcodes of a state dictionary; its tensors' bytes are added to ``storages``."""
    out = [b"ccollections\nOrderedDict\n", b")R", b"("]
    for name, array in state.items():
        kind = "FloatStorage" if array.dtype == np.float32 else "LongStorage"
        strides = [stride // array.itemsize for stride in array.strides]
        out.append(_text(name))
        out.append(b"ctorch._utils\n_rebuild_tensor_v2\n(")
        out.append(b"(" + _text("storage") + f"ctorch\n{kind}\n".encode())
        out.append(_text(str(len(storages))) + _text("cpu") + _number(array.size) + b"tQ")
        out.append(_number(0) + _numbers(array.shape) + _numbers(strides) + b"\x89")
        out.append(b"ccollections\nOrderedDict\n)RtR")
        storages.append(array.tobytes("A"))
    return b"".join(out) + b"u"


def packed(pickled: bytes, storages: list[bytes] | None = None, *, squeezed: bool = False) -> bytes:
    """Return the zip file of a pickle and its storages, whatever is in them."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED if squeezed else ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for number, content in enumerate(storages or []):
            archive.writestr(f"archive/data/{number}", content)
    return buffer.getvalue()


def _text(text: str) -> bytes:
    return b"X" + len(text.encode()).to_bytes(4, "little") + text.encode()


def _number(number: int) -> bytes:
    return b"J" + number.to_bytes(4, "little", signed=True)


def _numbers(numbers: Any) -> bytes:
    return b"(" + b"".join(_number(int(each)) for each in numbers) + b"t"
