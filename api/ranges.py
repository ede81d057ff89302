"""Range requests (RFC 9110, section 14): which part of a file a client wants."""

import re
from dataclasses import dataclass

from shared.infra.errors import RangeNotSatisfiable

_RANGE = re.compile(r"bytes=\s*([0-9]{1,18})?\s*-\s*([0-9]{1,18})?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes [start, stop) of a file."""

    start: int
    stop: int


def part_wanted(range_: str, if_range: str, *, etag: str, n_bytes: int) -> Part | None:
    """Return the part of a file that a request wants; None: the whole.

    ``range_`` and ``if_range`` are the headers' values. What is no range of bytes, or several, is
    answered with the whole, and so is who has a part of another version.

    Raises:
        RangeNotSatisfiable: the file has no such part.
    """
    found = _RANGE.fullmatch(range_)
    if found is None or (if_range and if_range.strip() != etag):
        return None
    first, last = found.groups()
    if first is None and last is None:
        return None
    if first is None:
        start, stop = max(0, n_bytes - int(last)), n_bytes
    else:
        start, stop = int(first), n_bytes if last is None else int(last) + 1
        if last is not None and stop <= start:
            return None
    if start >= n_bytes or start == stop:
        raise RangeNotSatisfiable(f"the file has {n_bytes} bytes", n_bytes)
    return Part(start, min(stop, n_bytes))
