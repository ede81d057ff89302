"""What headers say of a file's length, and where files begin that are written into one.

FFmpeg does not expose it: see the note on truncation in ``worker.media.decode``.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from worker.media.reader import Part, Reader

_LEFT_BYTES = 4096
"""Less that is left after the last chunk is padding."""
_MAX_CHUNKS = 256
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a source is to be read."""

    parts: tuple[Part, ...]
    """Files that follow each other; mostly one, which is the whole source."""
    missing_bytes: int = 0
    """How many more the headers declare than there are."""
    is_longer: bool = False
    """Whether there is more sound than a header declares."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    name: bytes
    start: int
    """Of its payload."""
    n_bytes: int
    header: int
    """Where its header starts."""


def layout(reader: Reader) -> Layout:
    """Return how to read a source: its parts without what would mislead FFmpeg.

    A tag in front of a format that knows no tags is skipped. Files that were joined end to end are
    parts of their own. A length in a header that is too small is corrected.
    """
    start = _after_tags(reader)
    magic = reader.at(start, 12)
    if magic[:4] in (b"RIFF", b"RF64", b"BW64") and magic[8:] == b"WAVE":
        return _wav_layout(reader, start)
    whole = Part(start, reader.n_bytes)
    if magic[4:8] == b"ftyp":
        return _joined(reader, _mp4_starts(reader, start))
    if magic[:4] == _EBML:
        return _joined(reader, _matroska_starts(reader, start))
    if magic[:3] == b"ID3" or magic[:1] == b"\xff":
        end = _mp3_end(reader, start)
        return Layout((whole,), max(0, (end or 0) - reader.n_bytes))
    if magic[:4] == b"RIFF" and magic[8:] == b"AVI ":
        end = 8 + int.from_bytes(magic[4:8], "little")
        return Layout((whole,), max(0, start + end - reader.n_bytes))
    return _sized(reader, start, magic) or Layout((whole,))


def _after_tags(reader: Reader) -> int:
    """Return where a file starts behind ID3 tags, if its format knows none."""
    offset = 0
    for _ in range(8):
        n_bytes = _tag_bytes(reader.at(offset, 10))
        if not n_bytes:
            break
        offset += n_bytes
    magic = reader.at(offset, 8) if offset else b""
    known = (b"RIFF", b"RF64", b"BW64", b"FORM", b"caff", b"riff", b".snd", b"OggS", b"wvpk", _EBML)
    return offset if magic[:4] in known or magic[4:] == b"ftyp" else 0


def _tag_bytes(header: bytes) -> int:
    """Return the length of the ID3v2 tag that starts with these 10 bytes; 0: it is none."""
    if len(header) < 10 or header[:3] != b"ID3" or max(header[3:5]) == 0xFF:
        return 0
    if max(header[6:10]) > 0x7F:
        return 0
    n_bytes = 0
    for part in header[6:10]:
        n_bytes = n_bytes << 7 | part
    return n_bytes + (20 if header[5] & 0x10 else 10)


def _joined(reader: Reader, found: tuple[list[int], int]) -> Layout:
    """Return the layout of files that start at offsets; the last one should end at ``end``."""
    starts, end = found
    ends = [*starts[1:], reader.n_bytes]
    parts = tuple(Part(a, b) for a, b in zip(starts, ends, strict=True))
    return Layout(parts, max(0, end - reader.n_bytes))


# WAV


def _wav_layout(reader: Reader, start: int) -> Layout:
    """Return the layout of a WAV file, or of several that were joined.

    Programs that write to a pipe do not know the size: they write 0, 0xFFFFFFFF, 0x7FFFF000 (SoX)
    or 0x80000000 (arecord). All of these mean "until the file ends".
    """
    form, long_size, n_data, missing, is_plain, is_longer = b"", 0, 0, 0, start == 0, False
    parts: list[Part] = []
    for chunk in _wav_chunks(reader, start + 12):
        if chunk.name == b"RIFF":
            is_plain = False
        elif chunk.name == b"ds64":
            long_size = int.from_bytes(reader.at(chunk.start, 16)[8:], "little")
        elif chunk.name == b"fmt ":
            is_plain = is_plain and chunk.header % 2 == 0
            form = reader.at(chunk.start, min(chunk.n_bytes, 4096))
        elif chunk.name == b"data" and form:
            end, is_known = _wav_data_end(chunk, long_size)
            n_data += 1
            missing = max(0, end - reader.n_bytes) if is_known else 0
            if not is_known or _goes_on(reader, end + (end - start) % 2, end):
                is_longer = is_known
                end = reader.n_bytes
            is_plain = is_plain and not is_longer and n_data == 1 and chunk.header % 2 == 0
            parts.append(Part(chunk.start, min(end, reader.n_bytes), _wav_header(form, chunk, end)))
    if is_plain or not parts:
        return Layout((Part(start, reader.n_bytes),), missing)
    return Layout(tuple(parts), missing, is_longer)


def _wav_chunks(reader: Reader, offset: int) -> Iterator[_Chunk]:
    """Yield the chunks of WAV files, up to what is none; an odd one may lack its padding."""
    long_size = 0
    for _ in range(_MAX_CHUNKS):
        raw = reader.at(offset, 12)
        if len(raw) < 8 or not is_name(raw[:4]):
            return
        name, n_bytes = struct.unpack("<4sI", raw[:8])
        chunk = _Chunk(name, offset + 8, n_bytes, offset)
        yield chunk
        if name in (b"RIFF", b"RF64", b"BW64") and raw[8:] == b"WAVE":
            offset += 12
            continue
        if name == b"ds64":
            long_size = int.from_bytes(reader.at(offset + 8, 16)[8:], "little")
        if name == b"data":
            offset, is_known = _wav_data_end(chunk, long_size)
            if not is_known:
                return
        else:
            offset += 8 + n_bytes
        if n_bytes % 2:
            padded, unpadded = reader.at(offset + 1, 4), reader.at(offset, 4)
            # The padding is 0, so what starts with it is no name.
            offset += 0 if is_name(unpadded) and not is_name(padded) else 1


def _wav_data_end(chunk: _Chunk, long_size: int) -> tuple[int, bool]:
    """Return where a data chunk ends, and whether it says so."""
    n_bytes = long_size or chunk.n_bytes
    return chunk.start + n_bytes, bool(long_size) or 0 < n_bytes < 0x7FFF0000


def _wav_header(form: bytes, chunk: _Chunk, end: int) -> bytes:
    n_bytes = min(end - chunk.start, 0xFFFFFFFF)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + bytes(len(form) % 2)
    body += b"data" + struct.pack("<I", n_bytes)
    return b"RIFF" + struct.pack("<I", min(len(body) + n_bytes, 0xFFFFFFFF)) + body


def is_name(name: bytes) -> bool:
    """Return whether these can be the four letters that a chunk or a box is named by."""
    return len(name) == 4 and all(0x20 <= each < 0x7F for each in name)


def _goes_on(reader: Reader, *offsets: int) -> bool:
    """Return whether there is data where a chunk or the end of the file should be."""
    return all(
        reader.n_bytes - offset > _LEFT_BYTES and not is_name(reader.at(offset, 4))
        for offset in offsets
    )


# W64, CAF and AIFF


def _sized(reader: Reader, start: int, magic: bytes) -> Layout | None:
    """Return the layout of a file of chunks whose sound is in one of them."""
    included = 0  # header bytes that are included in a chunk's size
    if magic[:4] == b"riff":
        header, offset, alignment, sound = struct.Struct("<4s12xQ"), start + 40, 8, b"data"
        included = header.size
    elif magic[:4] == b"caff":
        header, offset, alignment, sound = struct.Struct(">4sQ"), start + 8, 1, b"data"
    elif magic[:4] == b"FORM" and magic[8:] in (b"AIFF", b"AIFC"):
        header, offset, alignment, sound = struct.Struct(">4sI"), start + 12, 2, b"SSND"
    else:
        return None
    size = header.size - 4 if sound == b"SSND" else 8
    parts: list[Part] = []
    missing, is_longer = 0, False
    for _ in range(_MAX_CHUNKS):
        raw = reader.at(offset, header.size)
        if len(raw) < header.size:
            break
        name, n_bytes = header.unpack(raw)
        if raw[:4] == magic[:4]:
            return _joined(reader, ([start, offset], 0))
        end = offset + header.size - included + n_bytes
        if name == sound and not parts:
            if not included < n_bytes < (0x7EFF0000 if sound == b"SSND" else 1 << 62):
                break
            parts.append(Part(start, reader.n_bytes))
            if end > reader.n_bytes:
                # FFmpeg itself keeps the declared duration of an AIFF.
                missing = 0 if sound == b"SSND" else end - reader.n_bytes
            elif _goes_on(reader, end + -end % alignment, end):
                longer = n_bytes + reader.n_bytes - end
                if longer < 1 << 8 * size:
                    order: Literal["little", "big"] = "little" if included else "big"
                    at, patch = offset + header.size - size, longer.to_bytes(size, order)
                    parts, is_longer = [Part(start, reader.n_bytes, b"", at, patch)], True
                break
        elif not is_name(name):
            break
        offset += header.size + -(-(n_bytes - included) // alignment) * alignment
    return Layout(tuple(parts) or (Part(start, reader.n_bytes),), missing, is_longer)


# MP3


def _mp3_end(reader: Reader, start: int) -> int | None:
    """Return where an MP3 file ends by its Xing header; None where it has none."""
    offset = start + _tag_bytes(reader.at(start, 10))
    frame = reader.at(offset, 256)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0 or frame[:1] != b"\xff" or len(frame) < at + 16:
        return None
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")
    if not flags & 2:
        return None
    at += 12 if flags & 1 else 8
    return offset + int.from_bytes(frame[at : at + 4], "big")


# MP4


def is_fragmented(reader: Reader) -> bool:
    """Return whether an mp4 file is made of fragments."""
    return _fragments_start(reader) is not None


def next_fragment(reader: Reader, after: int) -> Part | None:
    """Return an mp4 file without what lies between its index and the next fragment.

    Returns:
        The file with that hidden (``resumed_at`` has where the fragment starts), or None if there
        is none.
    """
    first = _fragments_start(reader)
    if first is None:
        return None
    at = after
    while (found := reader.find(b"moof", at)) is not None:
        start = found - 4
        if reader.at(found + 8, 4) == b"mfhd" and start >= after and start >= first + 16:
            # A box that readers skip, with a size of 64 bits.
            hidden = struct.pack(">I4sQ", 1, b"free", start - first)
            return Part(0, reader.n_bytes, b"", first, hidden)
        at = found + 4
    return None


def resumed_at(part: Part) -> int:
    """Return where reading goes on in a part that ``next_fragment`` returned."""
    return part.patch_at + int.from_bytes(part.patch[8:], "big")


def _boxes(reader: Reader, offset: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, start and end of an mp4 file's top-level boxes."""
    for _ in range(_MAX_CHUNKS):
        raw = reader.at(offset, 16)
        n_bytes = int.from_bytes(raw[:4], "big")
        if n_bytes == 1:  # a 64-bit size follows
            n_bytes = int.from_bytes(raw[8:], "big")
        if n_bytes < 8 or not is_name(raw[4:8]):  # no box, or one "until the file ends"
            return
        yield raw[4:8], offset, offset + n_bytes
        offset += n_bytes


def _fragments_start(reader: Reader) -> int | None:
    """Return where the first fragment of an mp4 file starts; None where there is none."""
    if reader.at(4, 4) != b"ftyp":
        return None
    return next((start for name, start, _ in _boxes(reader, 0) if name == b"moof"), None)


def _mp4_starts(reader: Reader, offset: int) -> tuple[list[int], int]:
    """Return where the mp4 files start that were joined, and where the last one should end."""
    starts, end = [offset], 0
    for name, start, box_end in _boxes(reader, offset):
        end = box_end
        if name == b"moof":
            break
        if name == b"ftyp" and start > offset:
            starts.append(start)
    return starts, end


# Matroska


def _matroska_starts(reader: Reader, offset: int) -> tuple[list[int], int]:
    """Return where the Matroska files start that were joined, and where the last should end.

    A file that was written into a pipe does not know its end.
    """
    starts = [offset]
    for _ in range(_MAX_CHUNKS):
        end = _after_ebml(reader, starts[-1])
        if end is None or reader.at(end, 4) != _SEGMENT:
            return starts, 0
        end = _after_ebml(reader, end)
        if end is None or reader.at(end, 4) != _EBML:
            return starts, end or 0
        starts.append(end)
    return starts, 0


def _after_ebml(reader: Reader, offset: int) -> int | None:
    """Return where an element ends whose name has four bytes; None: it does not say."""
    raw = reader.at(offset + 4, 8)
    if not raw or not raw[0]:
        return None
    length = 9 - raw[0].bit_length()
    n_bytes = int.from_bytes(raw[:length], "big") & ((1 << 7 * length) - 1)
    if n_bytes == (1 << 7 * length) - 1:
        return None
    return offset + 4 + length + n_bytes


# Ogg


def ogg_is_cut(reader: Reader) -> bool:
    """Return whether an Ogg file ends within a page, or in something else."""
    start = max(0, reader.n_bytes - (66 << 10))
    data = reader.at(start, 66 << 10)
    at = data.rfind(b"OggS")
    if reader.at(0, 4) != b"OggS":
        return False
    if at < 0:
        return True
    header = data[at : at + 27]
    if len(header) < 27:
        return True
    sizes = data[at + 27 : at + 27 + header[26]]
    return len(sizes) < header[26] or at + 27 + len(sizes) + sum(sizes) > len(data)


def next_ogg_start(reader: Reader, after: int) -> int | None:
    """Return where the next chained stream of an Ogg file starts, from ``after`` on."""
    at = after
    while (found := reader.find(b"OggS\0", at)) is not None:
        if reader.at(found + 5, 1)[:1] == b"\2":
            return found
        at = found + 4
    return None
