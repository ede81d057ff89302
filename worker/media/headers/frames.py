"""Encoded frames that say how long they are."""

_AC3_KBITS = (
    *(32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640),
)
_AC3_RATES_HZ = (48_000, 44_100, 32_000)
_AC3_FRAME_SAMPLES = 1536
_MPEG1_KBITS = {
    1: (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_MPEG2_KBITS = {
    1: (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    3: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG_RATES_HZ = {
    3: (44_100, 48_000, 32_000),
    2: (22_050, 24_000, 16_000),
    0: (11_025, 12_000, 8_000),
}
"""By version: MPEG-1, MPEG-2 and MPEG-2.5."""
_AMR = {
    b"#!AMR\n": (12, 13, 15, 17, 19, 20, 26, 31, 5, *[None] * 6, 0),
    b"#!AMR-WB\n": (17, 23, 32, 36, 40, 46, 50, 58, 60, 5, *[None] * 4, 0, 0),
}
"""Bytes of a frame after its first byte, by frame type; None: there is no such type."""
_AMR_CHAIN = 8
"""So many frames in a row are no accident."""
AMR_MAGIC_BYTES = 9
HEAD_BYTES = 8


def frame_bytes(head: bytes) -> int:
    """Return the length of the ADTS, AC-3, E-AC-3 or MPEG audio frame with this head; 0: unknown.

    Args:
        head: its first HEAD_BYTES.
    """
    if len(head) < HEAD_BYTES:
        return 0
    if head[:2] == b"\x0b\x77":
        return _ac3_bytes(head)
    if head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    if head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return _mpeg_bytes(head)
    return 0


def _ac3_bytes(head: bytes) -> int:
    if head[5] >> 3 > 10:  # E-AC-3
        return 2 * (((head[2] & 7) << 8 | head[3]) + 1)
    rate, code = head[4] >> 6, head[4] & 0x3F
    if rate == 3 or code >= 2 * len(_AC3_KBITS):
        return 0
    rate_hz = _AC3_RATES_HZ[rate]
    n_words = _AC3_KBITS[code // 2] * 1000 * _AC3_FRAME_SAMPLES // rate_hz // 16
    return 2 * (n_words + (code % 2 if rate_hz == 44_100 else 0))


def _mpeg_bytes(head: bytes) -> int:
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bit_rate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bit_rate in (0, 15) or rate == 3:
        return 0
    kbits = (_MPEG1_KBITS if version == 3 else _MPEG2_KBITS)[layer][bit_rate]
    rate_hz, padding = _MPEG_RATES_HZ[version][rate], head[2] >> 1 & 1
    if layer == 1:
        return (12_000 * kbits // rate_hz + padding) * 4
    n_samples = 576 if layer == 3 and version != 3 else 1152
    return n_samples // 8 * 1000 * kbits // rate_hz + padding


def amr_magic(head: bytes) -> bytes:
    """Return how an AMR file starts with these bytes; empty if it is none."""
    return next((magic for magic in _AMR if head.startswith(magic)), b"")


def is_amr_frame(magic: bytes, first: int) -> bool:
    """Return whether an AMR frame may have this first byte."""
    return not first & 0x83 and _AMR[magic][first >> 3 & 15] is not None


def next_amr_frame(magic: bytes, data: bytes) -> int | None:
    """Return where in ``data`` the first of several whole frames starts; None if there is none."""
    for start in range(len(data) if magic else 0):
        at = start
        for _ in range(_AMR_CHAIN):
            if at >= len(data) or not is_amr_frame(magic, data[at]):
                break
            at += 1 + (_AMR[magic][data[at] >> 3 & 15] or 0)
        else:
            return start
    return None
