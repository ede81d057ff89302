"""MP3: the length in the Xing header."""

from worker.media.headers.tags import tag_bytes
from worker.media.reader import Layout, Part, Reader

_FRAME_COUNT, _BYTE_COUNT = 1, 2
"""Flags of the header: which of its fields are there, in this order."""


def mp3_layout(reader: Reader, start: int) -> Layout:
    """Return the layout of an MP3 file that may start with a tag."""
    end = _end(reader, start) or 0
    return Layout((Part(start, reader.n_bytes),), max(0, end - reader.n_bytes))


def _end(reader: Reader, start: int) -> int | None:
    """Return where the file ends by its Xing header; None where it has none."""
    offset = start + tag_bytes(reader.at(start, 10))
    frame = reader.at(offset, 256)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0 or frame[:1] != b"\xff" or len(frame) < at + 16:
        return None
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")
    if not flags & _BYTE_COUNT:
        return None
    at += 12 if flags & _FRAME_COUNT else 8
    return offset + int.from_bytes(frame[at : at + 4], "big")
