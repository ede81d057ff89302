"""FLAC: which sample a frame starts at (RFC 9639, 9.1)."""

from av.audio.frame import AudioFrame

_HEADER_BYTES = 11
"""Up to the end of the longest number."""


class FlacNumbers:
    """Gives the times of the frames of one stream by the numbers in their headers."""

    def __init__(self) -> None:
        self._block = 0
        """Samples of a frame, where the numbers count frames."""
        self._first = 0

    def stamp_s(self, packet: memoryview, frame: AudioFrame) -> float | None:
        """Return the time of a frame after that of the first one; None if it has no number.

        Args:
            packet: the encoded frame.
            frame: the same, decoded.
        """
        head = bytes(packet[:_HEADER_BYTES])
        if len(head) < _HEADER_BYTES or head[0] != 0xFF or head[1] & 0xFC != 0xF8:
            return None
        first = head[4]
        n_more = 7 - (first ^ 0xFF).bit_length() if first >= 0x80 else 0  # coded as in UTF-8
        number = first & (0x7F >> (n_more + 1 if n_more else 0))
        for each in head[5 : 5 + n_more]:
            number = number << 6 | each & 0x3F
        if not self._block:
            self._block, self._first = frame.samples, number
        counts_samples = head[1] & 1
        return (number - self._first) * (1 if counts_samples else self._block) / frame.sample_rate
