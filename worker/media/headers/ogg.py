"""Ogg: pages, chained streams."""

from worker.media.reader import Reader

_MAX_PAGE_BYTES = 66 << 10
_HEADER_BYTES = 27
_FIRST_PAGE = b"\2"
"""Flag of a logical stream's first page."""


def ogg_is_cut(reader: Reader) -> bool:
    """Return whether an Ogg file ends within a page, or in something else."""
    if reader.at(0, 4) != b"OggS":
        return False
    data = reader.at(max(0, reader.n_bytes - _MAX_PAGE_BYTES), _MAX_PAGE_BYTES)
    at = data.rfind(b"OggS")
    if at < 0:
        return True
    header = data[at : at + _HEADER_BYTES]
    if len(header) < _HEADER_BYTES:
        return True
    payload = at + _HEADER_BYTES + header[26]
    sizes = data[at + _HEADER_BYTES : payload]
    return payload + sum(sizes) > len(data)


def next_ogg_start(reader: Reader, after: int) -> int | None:
    """Return where the next chained stream of an Ogg file starts, from ``after`` on."""
    at = after
    while (found := reader.find(b"OggS\0", at)) is not None:
        if reader.at(found + 5, 1) == _FIRST_PAGE:
            return found
        at = found + 4
    return None
