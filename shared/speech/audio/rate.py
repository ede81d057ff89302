"""The one rate of decoded audio, in whose samples positions are counted.

Sums of integers stay exact over ten hours, sums of seconds do not, so seconds appear at the wire
only.
"""

SAMPLE_RATE = 16_000
"""Samples per second of all decoded audio; every engine here was trained at this rate."""


def clock(samples: int) -> str:
    """Return samples as H:MM:SS."""
    minutes, s = divmod(samples // SAMPLE_RATE, 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{s:02d}"
