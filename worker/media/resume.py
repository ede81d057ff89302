"""Where a source can be read from again when FFmpeg cannot go on with it."""

from worker.media.headers.chunked import is_name
from worker.media.headers.frames import AMR_MAGIC_BYTES, amr_magic, next_amr_frame
from worker.media.headers.ogg import next_ogg_start
from worker.media.reader import Part, Reader

_FLAC_LATE_BYTES = 32_768
"""FFmpeg's positions of FLAC frames may be late by so much."""
_AMR_BYTES = 4_096
"""How far the next whole frame of an AMR is looked for."""
_TAG_BYTES = 10
_UNREAD_BYTES = 64
"""Less between two frames is padding."""


def resume(reader: Reader, form: str, file_start: int, start: int, n_bytes: int) -> Part | None:
    """Return the next part that can be read; None where there is none or FFmpeg finds it itself.

    Args:
        reader: of the source.
        form: FFmpeg's name of the demuxer.
        file_start: where the file that was read starts.
        start: where bytes start that cannot be read.
        n_bytes: their number, where it is known.
    """
    found: int | None = None
    header = b""
    if form == "ogg":
        found = next_ogg_start(reader, max(1, start))
    elif form == "wv":
        found = reader.find(b"wvpk", start + 1)
    elif form == "flac":
        before = max(file_start + 1, start - _FLAC_LATE_BYTES)
        found = _within(reader, b"fLaC", before, n_bytes + 2 * _FLAC_LATE_BYTES)
    elif form in ("aac", "mp3"):
        found = _within(reader, b"ID3", max(1, start - _TAG_BYTES), n_bytes + 2 * _TAG_BYTES)
    elif form == "amr":
        header = amr_magic(reader.at(file_start, AMR_MAGIC_BYTES))
        frame = next_amr_frame(header, reader.at(start, _AMR_BYTES))
        found = None if frame is None else start + frame
    return None if found is None else Part(found, reader.n_bytes, header)


def is_damage(reader: Reader, form: str, start: int, end: int) -> bool:
    """Return whether the bytes between two frames of a track are neither padding nor a tag."""
    # Chunks start at even offsets.
    if end - start <= _UNREAD_BYTES or is_name(reader.at(start + start % 2, 4)):
        return False
    # FFmpeg's FLAC parser itself goes on with a file that was joined to another.
    return (
        form != "flac"
        or _within(reader, b"fLaC", end - _FLAC_LATE_BYTES, 2 * _FLAC_LATE_BYTES) is None
    )


def _within(reader: Reader, wanted: bytes, start: int, n_bytes: int) -> int | None:
    start = max(1, start)
    at = reader.at(start, n_bytes).find(wanted)
    return None if at < 0 else start + at
