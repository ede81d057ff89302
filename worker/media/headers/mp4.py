"""MP4 and MOV: joined files, and fragments after a damaged one."""

import struct
from collections.abc import Iterator

from worker.media.headers.chunked import MAX_CHUNKS, is_name, joined_layout
from worker.media.reader import Layout, Part, Reader

_MAX_FTYP_BYTES = 1024


def mp4_layout(reader: Reader, start: int) -> Layout:
    """Return the layout of an MP4 file, or of several that were joined.

    The first fragment ends the search: there may be many thousands. ``next_mp4`` finds files after.
    """
    starts, end = [start], 0
    for name, box, box_end in _boxes(reader, start):
        end = box_end
        if name == b"moof":
            break
        if name == b"ftyp" and box > start:
            starts.append(box)
    return joined_layout(reader, starts, end)


def next_mp4(reader: Reader, after: int, before: int) -> int | None:
    """Return where the next joined file starts in bytes [after, before); None if none does."""
    at = after
    while (found := reader.find(b"ftyp", at, before)) is not None:
        n_bytes = int.from_bytes(reader.at(found - 4, 4), "big")
        if 16 <= n_bytes <= _MAX_FTYP_BYTES and is_name(reader.at(found - 4 + n_bytes + 4, 4)):
            return found - 4
        at = found + 4
    return None


def first_fragment(reader: Reader, start: int) -> int | None:
    """Return where the first fragment of the MP4 file at ``start`` is; None: it has none."""
    if reader.at(start + 4, 4) != b"ftyp":
        return None
    for name, box, _ in _boxes(reader, start):
        if name == b"moof":
            return box
        if name == b"ftyp" and box > start:
            return None
    return None


def next_fragment(reader: Reader, start: int, after: int) -> Part | None:
    """Return the MP4 file at ``start`` without what lies between its index and the next fragment.

    Returns:
        The file with that hidden (``resumed_at`` has where the fragment starts), or None if there
        is none from ``after`` on.
    """
    first = first_fragment(reader, start)
    if first is None:
        return None
    at = after
    while (found := reader.find(b"moof", at)) is not None:
        fragment = found - 4
        is_fragment = reader.at(found + 8, 4) == b"mfhd"
        if is_fragment and fragment >= after and fragment >= first + 16:
            # Readers skip this box; its size has 64 bits.
            hidden = struct.pack(">I4sQ", 1, b"free", fragment - first)
            return Part(start, reader.n_bytes, b"", first, hidden, continues=True)
        at = found + 4
    return None


def resumed_at(part: Part) -> int:
    """Return where reading goes on in a part that ``next_fragment`` returned."""
    return part.patch_at + int.from_bytes(part.patch[8:], "big")


def _boxes(reader: Reader, offset: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, start and end of top-level boxes."""
    for _ in range(MAX_CHUNKS):
        raw = reader.at(offset, 16)
        n_bytes = int.from_bytes(raw[:4], "big")
        if n_bytes == 1:  # a 64-bit size follows
            n_bytes = int.from_bytes(raw[8:], "big")
        if n_bytes < 8 or not is_name(raw[4:8]):  # no box, or one "until the file ends"
            return
        yield raw[4:8], offset, offset + n_bytes
        offset += n_bytes
