"""ID3 tags, also in front of formats that know none."""

from worker.media.reader import Reader

_MAX_TAGS = 8
_WITHOUT_TAGS = frozenset(
    {b"RIFF", b"RF64", b"BW64", b"FORM", b"caff", b"riff", b".snd", b"OggS", b"wvpk", b"FLV\1"}
    | {b"\x1a\x45\xdf\xa3"}
)
"""First four bytes of formats that know no tags, so FFmpeg does not expect one in front."""


def unexpected_tag_bytes(reader: Reader) -> int:
    """Return the length of the ID3v2 tags in front of a file whose format knows none."""
    offset = 0
    for _ in range(_MAX_TAGS):
        n_bytes = tag_bytes(reader.at(offset, 10))
        if not n_bytes:
            break
        offset += n_bytes
    magic = reader.at(offset, 8) if offset else b""
    return offset if magic[:4] in _WITHOUT_TAGS or magic[4:] == b"ftyp" else 0


def tag_bytes(header: bytes) -> int:
    """Return the length of the ID3v2 tag that starts with these 10 bytes; 0 if it is none."""
    if len(header) < 10 or header[:3] != b"ID3" or max(header[3:5]) == 0xFF:
        return 0
    if max(header[6:10]) > 0x7F:
        return 0
    n_bytes = 0
    for part in header[6:10]:
        n_bytes = n_bytes << 7 | part
    return n_bytes + (20 if header[5] & 0x10 else 10)
