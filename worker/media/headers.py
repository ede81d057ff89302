"""The file length that headers of WAV, W64, CAF and mp4 files declare.

FFmpeg does not expose it: see the note on truncation in ``worker.media.decode``.
"""

import struct

from worker.media.container import Reader

_LEFT_BYTES = 4096
"""Less that is left after the last chunk is padding."""


def declared_end(source: Reader) -> int | None:
    """Return the byte offset where the data of a WAV, RF64, W64, CAF or mp4 file should end.

    None for other formats and for files that do not say. Programs that write to a pipe do not know
    the size: they write 0, 0xFFFFFFFF, 0x7FFFF000 (SoX) or 0x80000000 (arecord) into a WAV and -1
    into a CAF file. All of these mean "until the file ends".
    """
    source.seek(0)
    magic = source.read(12)
    included = 0  # header bytes that are included in a chunk's size
    if magic[:4] in (b"RIFF", b"RF64", b"BW64") and magic[8:] == b"WAVE":
        header, offset, alignment, unknown_from = struct.Struct("<4sI"), 12, 2, 0x7FFF0000
    elif magic[:4] == b"riff":
        header, offset, alignment, unknown_from = struct.Struct("<4s12xQ"), 40, 8, 1 << 62
        included = header.size
    elif magic[:4] == b"caff":
        header, offset, alignment, unknown_from = struct.Struct(">4sQ"), 8, 1, 1 << 62
    elif magic[4:8] == b"ftyp":
        return _end_of_boxes(source)
    else:
        return None
    long_size = 0  # RF64 keeps sizes beyond 32 bits in a chunk of their own
    for _ in range(64):
        source.seek(offset)
        raw = source.read(header.size)
        if len(raw) < header.size:
            break
        name, n_bytes = header.unpack(raw)
        if name == b"ds64":
            long_size = int.from_bytes(source.read(16)[8:], "little")
        elif name == b"data":
            n_bytes = long_size or n_bytes
            known = n_bytes > included and (long_size or n_bytes < unknown_from)
            return offset + header.size - included + n_bytes if known else None
        offset += header.size + -(-(n_bytes - included) // alignment) * alignment
    return None


def length_is_wrong(source: Reader) -> bool:
    """Return whether a WAV file goes on after its data with what are no chunks: more data."""
    end = declared_end(source)
    source.seek(0)
    if source.read(4) not in (b"RIFF", b"RF64", b"BW64") or end is None:
        return False
    offset = end + end % 2
    for _ in range(64):
        source.seek(offset)
        raw = source.read(8)
        if len(raw) < 8:
            return False
        name, n_bytes = struct.unpack("<4sI", raw)
        if not (name.isascii() and name.decode().isprintable()):
            return source.n_bytes - offset > _LEFT_BYTES
        offset += 8 + n_bytes + n_bytes % 2
    return False


def is_fragmented(source: Reader) -> bool:
    """Return whether an mp4 file is made of fragments."""
    return _fragments_start(source) is not None


def resume_at_next_fragment(source: Reader, after: int) -> int | None:
    """Hide what lies between an mp4 file's index and the next fragment that starts later.

    Returns:
        The offset of that fragment, or None if there is none: nothing is hidden.
    """
    first = _fragments_start(source)
    if first is None:
        return None
    offset, tail = after, b""
    source.seek(offset)
    while data := source.read(1 << 20):
        data = tail + data
        at = -1
        while (at := data.find(b"moof", at + 1)) >= 0 and at + 12 <= len(data):
            start = offset - len(tail) + at - 4
            if data[at + 8 : at + 12] == b"mfhd" and start > after and start >= first + 16:
                # A box that readers skip, with a size of 64 bits.
                source.patch(first, struct.pack(">I4sQ", 1, b"free", start - first))
                return start
        offset += len(data) - len(tail)
        tail = data[-11:]
    return None


def _fragments_start(source: Reader) -> int | None:
    """Return where the first fragment of an mp4 file starts; None where there is none."""
    offset = 0
    for _ in range(64):
        source.seek(offset)
        raw = source.read(16)
        n_bytes = int.from_bytes(raw[:4], "big")
        if n_bytes == 1:
            n_bytes = int.from_bytes(raw[8:], "big")
        if n_bytes < 8 or (offset == 0 and raw[4:8] != b"ftyp"):
            return None
        if raw[4:8] == b"moof":
            return offset
        offset += n_bytes
    return None


def _end_of_boxes(source: Reader) -> int | None:
    """Return where the last top-level box of an mp4 file should end; fragments are not followed."""
    offset = 0
    for _ in range(64):
        source.seek(offset)
        raw = source.read(16)
        n_bytes = int.from_bytes(raw[:4], "big")
        if n_bytes == 1:  # a 64-bit size follows
            n_bytes = int.from_bytes(raw[8:], "big")
        if n_bytes < 8:  # no box left, or one "until the file ends"
            break
        offset += n_bytes
        if raw[4:8] == b"moof":
            break
    return offset or None
