"""FLV: joined files, and first tags that are damaged."""

from worker.media.reader import Layout, Part, Reader

MAGIC = b"FLV\1"
_TAG_BYTES = 11
_TAG_TYPES = (8, 9, 18)
"""Sound, pictures, data."""
_CHECKED_TAGS = 3


def flv_layout(reader: Reader, start: int) -> Layout:
    """Return the layout of an FLV file. ``next_flv`` finds files after."""
    offset = start + int.from_bytes(reader.at(start + 5, 4), "big") + 4
    damaged_at = None
    for _ in range(_CHECKED_TAGS):
        tag = reader.at(offset, _TAG_BYTES)
        if len(tag) < _TAG_BYTES:
            break
        if tag[0] & 0x1F not in _TAG_TYPES:
            damaged_at = offset
            break
        offset += _TAG_BYTES + int.from_bytes(tag[1:4], "big") + 4
    return Layout((Part(start, reader.n_bytes),), damaged_at=damaged_at)


def next_flv(reader: Reader, after: int) -> int | None:
    """Return where the next joined file starts, from ``after`` on; None if none does."""
    return reader.find(MAGIC, after)
