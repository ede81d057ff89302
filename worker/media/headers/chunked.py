"""Formats of named chunks whose sound is in one of them: W64, CAF and AIFF."""

import struct
from dataclasses import dataclass
from typing import Literal

from worker.media.reader import Layout, Part, Reader

MAX_CHUNKS = 256
_HEADER_BYTES = 1 << 16
_LEFT_BYTES = 4096
"""Less that is left after the last chunk is padding."""


@dataclass(frozen=True, slots=True)
class _Format:
    """How chunks are written."""

    header: struct.Struct
    """Name and size."""
    first: int
    """Offset of the first chunk."""
    alignment: int
    sound: bytes
    """Name of the chunk that holds the sound."""
    unknown_bytes: int
    """A size from which on the length is not known."""
    size_bytes: int = 8
    included: int = 0
    """Header bytes that are included in a chunk's size."""
    order: Literal["little", "big"] = "big"


_W64 = _Format(struct.Struct("<4s12xQ"), 40, 8, b"data", 1 << 62, included=24, order="little")
_CAF = _Format(struct.Struct(">4sQ"), 8, 1, b"data", 1 << 62)
_AIFF = _Format(struct.Struct(">4sI"), 12, 2, b"SSND", 0x7EFF_0000, size_bytes=4)


def chunked_layout(reader: Reader, start: int, magic: bytes) -> Layout | None:
    """Return the layout of a W64, CAF or AIFF file, or of several that were joined.

    Returns:
        None if ``magic``, the file's first 12 bytes, is another format's.
    """
    if magic[:4] == b"riff":
        return _layout(reader, start, _W64)
    if magic[:4] == b"caff":
        return _layout(reader, start, _CAF)
    if magic[:4] == b"FORM" and magic[8:] in (b"AIFF", b"AIFC"):
        return _layout(reader, start, _AIFF)
    return None


def _layout(reader: Reader, start: int, form: _Format) -> Layout:
    starts, sounds = [start], list[tuple[int, int]]()
    patch: Part | None = None
    missing = 0
    magic, offset = reader.at(start, 4), start + form.first
    for _ in range(MAX_CHUNKS):
        raw = reader.at(offset, form.header.size)
        if len(raw) < form.header.size:
            break
        name, n_bytes = form.header.unpack(raw)
        if name == magic:
            starts.append(offset)
            offset += form.first
            continue
        end = offset + form.header.size - form.included + n_bytes
        if name == form.sound:
            if not form.included < n_bytes < form.unknown_bytes:
                break
            sounds.append((offset, min(end, reader.n_bytes)))
            if end > reader.n_bytes:
                # FFmpeg itself keeps the declared duration of an AIFF.
                missing = 0 if form is _AIFF else end - reader.n_bytes
                break
            if goes_on(reader, end + -end % form.alignment, end):
                longer = n_bytes + reader.n_bytes - end
                if longer < 1 << 8 * form.size_bytes:
                    at = offset + form.header.size - form.size_bytes
                    size = longer.to_bytes(form.size_bytes, form.order)
                    patch = Part(starts[-1], reader.n_bytes, b"", at, size)
                break
        elif not is_name(name):
            break
        payload = n_bytes - form.included
        offset += form.header.size + payload + -payload % form.alignment
    if len(starts) == 1 and len(sounds) > 1 and sounds[0][0] - start <= _HEADER_BYTES:
        # FFmpeg reads the first one only, so each gets the header of the file.
        header = reader.at(start, sounds[0][0] - start)
        return Layout(tuple(Part(first, end, header) for first, end in sounds), missing)
    layout = joined_layout(reader, starts)
    if patch is not None:
        return Layout((*layout.parts[:-1], patch), missing, is_longer=True)
    return Layout(layout.parts, missing)


def joined_layout(reader: Reader, starts: list[int], end: int = 0) -> Layout:
    """Return the layout of files that follow each other; the last one should end at ``end``."""
    ends = [*starts[1:], reader.n_bytes]
    parts = tuple(Part(a, b) for a, b in zip(starts, ends, strict=True))
    return Layout(parts, max(0, end - reader.n_bytes))


def is_name(name: bytes) -> bool:
    """Return whether these can be the four letters that a chunk or a box is named by."""
    return len(name) == 4 and all(0x20 <= each < 0x7F for each in name)


def goes_on(reader: Reader, *offsets: int) -> bool:
    """Return whether there is data where a chunk or the end of the file should be."""
    return all(
        reader.n_bytes - offset > _LEFT_BYTES and not is_name(reader.at(offset, 4))
        for offset in offsets
    )
