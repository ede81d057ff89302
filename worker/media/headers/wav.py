"""WAV: chunks of sound wherever they are, and their true length."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from worker.media.headers.chunked import MAX_CHUNKS, goes_on, is_name
from worker.media.reader import Layout, Part, Reader

MAGICS = (b"RIFF", b"RF64", b"BW64")

_UNKNOWN_BYTES = 0x7FFF_0000
"""A data chunk that declares so much, or nothing, was written into a pipe and ends with the file.
Programs write 0, 0xFFFFFFFF, 0x7FFFF000 (SoX) or 0x80000000 (arecord)."""
_FORM_BYTES = 4096
_SILENCE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Chunk:
    name: bytes
    start: int
    """Of its payload."""
    n_bytes: int
    header: int
    """Where its header starts."""


def wav_layout(reader: Reader, start: int) -> Layout:
    """Return the layout of a WAV file, or of several that were joined.

    FFmpeg reads a plain file itself. Of any other, each chunk of sound is a part with a header.
    """
    form, long_size, missing, is_longer = b"", 0, 0, False
    is_plain = start == 0
    parts: list[Part] = []
    for chunk in _chunks(reader, start + 12):
        if chunk.name in (b"RIFF", b"LIST"):
            is_plain = is_plain and chunk.name == b"LIST" and not _is_wave_list(reader, chunk)
        elif chunk.name == b"ds64":
            long_size = _long_size(reader, chunk)
        elif chunk.name == b"fmt ":
            is_plain = is_plain and chunk.header % 2 == 0
            form = reader.at(chunk.start, min(chunk.n_bytes, _FORM_BYTES))
        elif chunk.name == b"slnt" and len(form) >= 16:
            n_frames = int.from_bytes(reader.at(chunk.start, 4), "little")
            parts += _silence(form, n_frames)
        elif chunk.name == b"data" and form:
            end, is_known = _data_end(chunk, long_size)
            missing = max(0, end - reader.n_bytes) if is_known else 0
            if not is_known or goes_on(reader, end + (end - start) % 2, end):
                is_longer = is_known
                end = reader.n_bytes
            is_plain = is_plain and not is_longer and not parts and chunk.header % 2 == 0
            header = _header(form, end - chunk.start)
            parts.append(Part(chunk.start, min(end, reader.n_bytes), header))
    if is_plain or not parts:
        return Layout((Part(start, reader.n_bytes),), missing)
    return Layout(tuple(parts), missing, is_longer)


def _chunks(reader: Reader, offset: int) -> Iterator[_Chunk]:
    """Yield the chunks of WAV files, those in a list of sound and silence (``wavl``) included.

    The chunks end with the first name that can be none. An odd chunk may lack its padding.
    """
    long_size = 0
    for _ in range(MAX_CHUNKS):
        raw = reader.at(offset, 12)
        if len(raw) < 8 or not is_name(raw[:4]):
            return
        name, n_bytes = struct.unpack("<4sI", raw[:8])
        chunk = _Chunk(name, offset + 8, n_bytes, offset)
        yield chunk
        if (name in MAGICS and raw[8:] == b"WAVE") or (name == b"LIST" and raw[8:] == b"wavl"):
            offset += 12
            continue
        if name == b"ds64":
            long_size = _long_size(reader, chunk)
        if name == b"data":
            offset, is_known = _data_end(chunk, long_size)
            if not is_known:
                return
        else:
            offset += 8 + n_bytes
        if n_bytes % 2:
            padded, unpadded = reader.at(offset + 1, 4), reader.at(offset, 4)
            # The padding is 0, so what starts with it is no name.
            offset += 0 if is_name(unpadded) and not is_name(padded) else 1


def _is_wave_list(reader: Reader, chunk: _Chunk) -> bool:
    return reader.at(chunk.start, 4) == b"wavl"


def _long_size(reader: Reader, chunk: _Chunk) -> int:
    """Return the size of the data chunk that a ``ds64`` chunk declares."""
    return int.from_bytes(reader.at(chunk.start, 16)[8:], "little")


def _data_end(chunk: _Chunk, long_size: int) -> tuple[int, bool]:
    """Return where a data chunk ends, and whether it says so."""
    n_bytes = long_size or chunk.n_bytes
    return chunk.start + n_bytes, bool(long_size) or 0 < n_bytes < _UNKNOWN_BYTES


def _header(form: bytes, n_bytes: int) -> bytes:
    """Return a header for ``n_bytes`` of sound."""
    n_bytes = min(n_bytes, 0xFFFF_FFFF)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + bytes(len(form) % 2)
    body += b"data" + struct.pack("<I", n_bytes)
    return b"RIFF" + struct.pack("<I", min(len(body) + n_bytes, 0xFFFF_FFFF)) + body


def _silence(form: bytes, n_frames: int) -> Iterator[Part]:
    """Yield silent files of so many frames, of PCM whose silence is 0."""
    frame_bytes = max(1, int.from_bytes(form[12:14], "little"))
    n_bytes = n_frames * frame_bytes
    most = _SILENCE_BYTES // frame_bytes * frame_bytes
    header = _header(form, most) + bytes(most)
    for _ in range(min(n_bytes // most, MAX_CHUNKS)):
        yield Part(0, 0, header)
    if n_bytes % most:
        yield Part(0, 0, _header(form, n_bytes % most) + bytes(n_bytes % most))
