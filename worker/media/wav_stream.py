"""A WAV that comes in live. Its samples need no demuxer but one of raw sound.

FFmpeg's own for WAV holds back the first 64 KiB of PCM, two seconds at 16 kHz, to search it for
other formats.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

_MAX_HEAD_BYTES = 1 << 16
"""Most bytes before the sound."""
_UNKNOWN_BYTES = 0x7FFF_0000
"""A data chunk that declares so much, or nothing, ends with the stream: ``headers.wav``."""
_EXTENSIBLE = 0xFFFE
_DEMUXERS = {
    (1, 8): "u8",
    (1, 16): "s16le",
    (1, 24): "s24le",
    (1, 32): "s32le",
    (3, 32): "f32le",
    (6, 8): "alaw",
    (7, 8): "mulaw",
}
"""FFmpeg's names, by the form's tag and bits a sample."""
_LAYOUTS = {1: "mono", 2: "stereo"}


@dataclass(frozen=True, slots=True)
class RawSound:
    """How the sound of a WAV is read."""

    demuxer: str
    options: dict[str, str]
    """Of the demuxer."""
    n_bytes: int | None
    """None: up to the stream's end."""


class Head(NamedTuple):
    """The beginning of a stream."""

    sound: RawSound | None
    """None: it is no WAV, or an unusual one."""
    data: bytes
    """All that was read of it."""


def read_head(read: Callable[[int], bytes]) -> Head:
    """Read a stream up to where its sound begins, if it is a WAV.

    ``read`` returns at most as many bytes as it is asked for, and none at the stream's end.
    """
    data = _fill(read, b"", 12)
    form = b""
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:] != b"WAVE":
        return Head(None, data)
    while len(data) < _MAX_HEAD_BYTES:
        at = len(data)
        data = _fill(read, data, at + 8)
        if len(data) < at + 8:
            break
        name, n_bytes = struct.unpack_from("<4sI", data, at)
        if name == b"data":
            return Head(_sound(form, n_bytes), data)
        if at + n_bytes > _MAX_HEAD_BYTES:
            break
        data = _fill(read, data, at + 8 + n_bytes + n_bytes % 2)
        if name == b"fmt ":
            form = data[at + 8 : at + 8 + n_bytes]
    return Head(None, data)


def _fill(read: Callable[[int], bytes], data: bytes, n_bytes: int) -> bytes:
    """Return ``data`` with what makes it ``n_bytes`` long, or less at the stream's end."""
    while len(data) < n_bytes and (more := read(n_bytes - len(data))):
        data += more
    return data


def _sound(form: bytes, n_bytes: int) -> RawSound | None:
    if len(form) < 16:
        return None
    tag, channels, rate, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", form)
    if tag == _EXTENSIBLE and len(form) >= 26:
        (tag,) = struct.unpack_from("<H", form, 24)
    demuxer, layout = _DEMUXERS.get((tag, bits)), _LAYOUTS.get(channels)
    if demuxer is None or layout is None or not rate or frame_bytes * 8 != channels * bits:
        return None
    options = {"sample_rate": str(rate), "ch_layout": layout}
    return RawSound(demuxer, options, n_bytes if 0 < n_bytes < _UNKNOWN_BYTES else None)
