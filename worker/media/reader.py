"""A file object for FFmpeg: a part of the source, with corrected headers and kept errors."""

import io
from dataclasses import dataclass
from typing import BinaryIO

from shared.infra.errors import LonghandError


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes [start, end) of a source that are a file of their own."""

    start: int
    end: int
    header: bytes = b""
    """Shown in front of the bytes."""
    patch_at: int = 0
    patch: bytes = b""
    """Shown in place of the source's bytes from ``patch_at`` on."""
    continues: bool = False
    """Whether it is more of the file before, whose clock goes on."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a source is to be read."""

    parts: tuple[Part, ...]
    """Files that follow each other; mostly one, which is the whole source."""
    missing_bytes: int = 0
    """How many more the headers declare than there are."""
    is_longer: bool = False
    """Whether there is more sound than a header declares."""
    damaged_at: int | None = None
    """Where damage in front of the first packet starts."""


class Reader:
    """Shows FFmpeg one part of a source at a time; at first all of it.

    FFmpeg takes an error for the end of the file, so an outage of the object store would truncate
    the transcript. ``check`` raises the error after FFmpeg has returned.
    """

    def __init__(self, source: BinaryIO) -> None:
        """Take a file that is read only through ``read``, ``seek`` and ``tell``."""
        self._source = source
        self.n_bytes = source.seek(0, io.SEEK_END)
        """Of the whole source."""
        self._failure: OSError | LonghandError | None = None
        self._at: int = 0
        self.show(Part(0, self.n_bytes))

    def show(self, part: Part) -> None:
        """Show a part from its start."""
        self._part = part
        self._n_header = len(part.header)
        self._n_shown = self._n_header + max(0, part.end - part.start)
        self.seek(0)

    def read(self, n_bytes: int) -> bytes:
        if self._failure is not None:
            return b""
        at, part = self._at, self._part
        if at < self._n_header:
            data = part.header[at : at + n_bytes]
        else:
            wanted = min(n_bytes, self._n_shown - at)
            try:
                data = self._source.read(wanted) if wanted > 0 else b""
            except (OSError, LonghandError) as error:
                self._failure = error
                return b""
            if part.patch:
                data = self._patched(data, self.offset(at))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base: int = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._n_shown}[whence]
        # A damaged header may have offsets beyond the file.
        self._at = max(0, min(base + offset, self._n_shown))
        self._source.seek(max(self._part.start, self.offset(self._at)))
        return self._at

    def tell(self) -> int:
        return self._at

    def offset(self, position: int) -> int:
        """Return where in the source a position of the part is."""
        return self._part.start + position - self._n_header

    def at(self, offset: int, n_bytes: int) -> bytes:
        """Return up to ``n_bytes`` of the source itself; ``tell`` stays as it is."""
        if self._failure is not None or offset < 0:
            return b""
        try:
            self._source.seek(min(offset, self.n_bytes))
            data = self._source.read(n_bytes)
        except (OSError, LonghandError) as error:
            self._failure = error
            return b""
        self.seek(self._at)
        return data

    def find(self, wanted: bytes, after: int, before: int | None = None) -> int | None:
        """Return the first offset in [after, before) of the source at which ``wanted`` stands.

        ``before`` is the end of the source by default.
        """
        offset, tail = after, b""
        before = self.n_bytes if before is None else before
        while data := self.at(offset, max(0, min(1 << 20, before - offset))):
            found = (tail + data).find(wanted)
            if found >= 0:
                return offset - len(tail) + found
            offset += len(data)
            tail = (tail + data)[-len(wanted) + 1 :]
        return None

    def check(self) -> None:
        """Raise the error of a failed read, if there was one."""
        if self._failure is not None:
            raise self._failure

    def _patched(self, data: bytes, start: int) -> bytes:
        part = self._part
        first = max(start, part.patch_at)
        last = min(start + len(data), part.patch_at + len(part.patch))
        if first >= last:
            return data
        shown = part.patch[first - part.patch_at : last - part.patch_at]
        return data[: first - start] + shown + data[last - start :]
