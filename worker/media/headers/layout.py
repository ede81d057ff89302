"""Which files a source consists of, and what their headers promise."""

from worker.media.headers.chunked import chunked_layout
from worker.media.headers.flv import MAGIC as FLV
from worker.media.headers.flv import flv_layout
from worker.media.headers.matroska import EBML, matroska_layout
from worker.media.headers.mp3 import mp3_layout
from worker.media.headers.mp4 import mp4_layout
from worker.media.headers.tags import unexpected_tag_bytes
from worker.media.headers.wav import MAGICS as WAV
from worker.media.headers.wav import wav_layout
from worker.media.reader import Layout, Part, Reader


def layout(reader: Reader) -> Layout:
    """Return how to read a source: its parts without what would mislead FFmpeg.

    A tag in front of a format that knows no tags is skipped. Files that were joined end to end are
    parts of their own. A length in a header that is too small is corrected.
    """
    start = unexpected_tag_bytes(reader)
    magic = reader.at(start, 12)
    if magic[:4] in WAV and magic[8:] == b"WAVE":
        return wav_layout(reader, start)
    if magic[4:8] == b"ftyp":
        return mp4_layout(reader, start)
    if magic[:4] == EBML:
        return matroska_layout(reader, start)
    if magic[:4] == FLV:
        return flv_layout(reader, start)
    if magic[:3] == b"ID3" or magic[:1] == b"\xff":
        return mp3_layout(reader, start)
    whole = Part(start, reader.n_bytes)
    if magic[:4] == b"RIFF" and magic[8:] == b"AVI ":
        end = start + 8 + int.from_bytes(magic[4:8], "little")
        return Layout((whole,), max(0, end - reader.n_bytes))
    return chunked_layout(reader, start, magic) or Layout((whole,))
