"""The file length that headers of WAV, W64, CAF and mp4 files declare.

FFmpeg does not expose it: see the note on truncation in ``worker.media.decode``.
"""

import struct

from worker.media.container import Reader


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
