"""MPEG-TS and MPEG-PS: where they can be read from, and whether they are cut off."""

from worker.media.reader import Reader

_SYNC = b"\x47"
_STRIDES = (188, 192, 204)
"""Bytes of a transport packet, alone, with a time code, and with error correction."""
_PACKETS = 6
"""So many sync bytes in a row are no accident."""
_PACK = b"\0\0\1\xba"
_SEARCHED_BYTES = 16 << 20
_WINDOW_BYTES = 1 << 20


def next_mpeg(reader: Reader, after: int) -> int | None:
    """Return the first place from ``after`` on that an MPEG stream can be read from, or None."""
    for offset in range(after, min(after + _SEARCHED_BYTES, reader.n_bytes), _WINDOW_BYTES):
        data = reader.at(offset, _WINDOW_BYTES + _PACKETS * max(_STRIDES))
        at = data.find(_SYNC)
        while 0 <= at < _WINDOW_BYTES:
            if any(_is_transport(data, at, stride) for stride in _STRIDES):
                return offset + at
            at = data.find(_SYNC, at + 1)
        found = data.find(_PACK)
        if found >= 0:
            return offset + found
    return None


def _is_transport(data: bytes, at: int, stride: int) -> bool:
    syncs = data[at : at + _PACKETS * stride : stride]
    return syncs == _SYNC * _PACKETS


def mpeg_is_cut(reader: Reader) -> bool:
    """Return whether an MPEG-TS or MPEG-PS ends within a packet."""
    start = max(0, reader.n_bytes - _WINDOW_BYTES)
    data = reader.at(start, _WINDOW_BYTES)
    at = data.find(_SYNC)
    while 0 <= at < max(_STRIDES) * _PACKETS:
        for stride in _STRIDES:
            if _is_transport(data, at, stride):
                last = at + (len(data) - 1 - at) // stride * stride
                return data[last : last + 1] == _SYNC and len(data) - last < _STRIDES[0]
        at = data.find(_SYNC, at + 1)
    return _ends_in_packet(data)


def _ends_in_packet(data: bytes) -> bool:
    """Return whether a part of an MPEG-PS, up to its end, ends within a packet."""
    at = data.find(_PACK)
    while 0 <= at < len(data):
        if data[at : at + 3] != b"\0\0\1":
            return False
        if data[at + 3] == 0xBA:
            is_mpeg2 = len(data) > at + 13 and data[at + 4] >> 6 == 1
            at += 14 + (data[at + 13] & 7) if is_mpeg2 else 12
        elif data[at + 3] == 0xB9:
            return False
        else:
            at += 6 + int.from_bytes(data[at + 4 : at + 6], "big")
        if at > len(data):
            return True
    return False
