"""Matroska and WebM: joined files, and a first cluster that is damaged."""

from worker.media.headers.chunked import MAX_CHUNKS, joined_layout
from worker.media.reader import Layout, Reader

EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_CLUSTER = b"\x1f\x43\xb6\x75"
_BEFORE_CLUSTERS = frozenset(
    {b"\x11\x4d\x9b\x74", b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b", b"\x12\x54\xc3\x67"}
    | {b"\x1c\x53\xbb\x6b", b"\x19\x41\xa4\x69", b"\x10\x43\xa7\x70", b"\xec", b"\xbf"}
)
"""SeekHead, Info, Tracks, Tags, Cues, Attachments, Chapters, Void, CRC-32."""
_IN_CLUSTER = frozenset(
    {b"\xe7", b"\xa7", b"\xab", b"\xa3", b"\xa0", b"\xec", b"\xbf", b"\x58\x54", b"\xaf"}
)
"""Timestamp, Position, PrevSize, SimpleBlock, BlockGroup, Void, CRC-32, SilentTracks, and
EncryptedBlock."""
_CHECKED_ELEMENTS = 3


def matroska_layout(reader: Reader, start: int) -> Layout:
    """Return the layout of a Matroska file, or of several that were joined.

    A file that was written into a pipe does not know its end.
    """
    starts, end = [start], 0
    for _ in range(MAX_CHUNKS):
        segment = _element(reader, starts[-1])[2]
        if segment is None or reader.at(segment, 4) != _SEGMENT:
            break
        segment_end = _element(reader, segment)[2]
        if segment_end is None or reader.at(segment_end, 4) != EBML:
            end = segment_end or 0
            break
        starts.append(segment_end)
    layout = joined_layout(reader, starts, end)
    return Layout(layout.parts, layout.missing_bytes, damaged_at=_damaged_at(reader, start))


def _damaged_at(reader: Reader, start: int) -> int | None:
    """Return where damage in front of the first readable cluster starts; None: there is none."""
    segment = _element(reader, start)[2]
    if segment is None or reader.at(segment, 4) != _SEGMENT:
        return None
    offset = _element(reader, segment)[1]
    for _ in range(MAX_CHUNKS):
        if offset >= reader.n_bytes:
            return None
        name, payload, end = _element(reader, offset)
        if name == _CLUSTER:
            return None if _is_cluster(reader, payload) else offset
        if name not in _BEFORE_CLUSTERS or end is None:
            return offset
        offset = end
    return None


def _is_cluster(reader: Reader, offset: int) -> bool:
    """Return whether the payload of a cluster starts with elements that belong into one."""
    for _ in range(_CHECKED_ELEMENTS):
        if offset >= reader.n_bytes:
            return True
        name, _, end = _element(reader, offset)
        if name in (_CLUSTER, *_BEFORE_CLUSTERS, EBML):
            return True
        if name not in _IN_CLUSTER:
            return False
        if end is None:
            return True
        offset = end
    return True


def _element(reader: Reader, offset: int) -> tuple[bytes, int, int | None]:
    """Return the name of the element at ``offset``, and where its payload starts and ends.

    The end is None if the element does not say it, or is none.
    """
    raw = reader.at(offset, 12)
    n_name = 9 - raw[0].bit_length() if raw and raw[0] else 9
    if n_name > 4 or len(raw) <= n_name or not raw[n_name]:
        return b"", offset, None
    n_size = 9 - raw[n_name].bit_length()
    payload = offset + n_name + n_size
    most = (1 << 7 * n_size) - 1
    n_bytes = int.from_bytes(raw[n_name : n_name + n_size], "big") & most
    return raw[:n_name], payload, None if n_bytes == most else payload + n_bytes
