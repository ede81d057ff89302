"""Where stored samples lie on the clock of the file that they were decoded from."""

from bisect import bisect_right
from collections.abc import Sequence

Anchor = tuple[int, int]
"""A sample, and its time; both count at SAMPLE_RATE."""


def time_of(anchors: Sequence[Anchor], sample: int) -> int:
    """Return the time of a sample.

    Time is linear between two anchors and runs with the samples outside of them. Without anchors a
    sample is its own time.
    """
    after = bisect_right(anchors, sample, key=lambda anchor: anchor[0])
    if not anchors:
        return sample
    left, left_time = anchors[max(0, after - 1)]
    if after in (0, len(anchors)):
        return left_time + sample - left
    right, right_time = anchors[after]
    return left_time + round((sample - left) * (right_time - left_time) / (right - left))


class TimeMap:
    """Anchors of a stream that is being read, in the order of their samples.

    ``forget_before`` bounds their number.
    """

    def __init__(self) -> None:
        self.anchors: list[Anchor] = []
        self.known_until = 0
        """No later anchor lies before this sample."""

    def add(self, sample: int, time: int) -> None:
        """Add an anchor after all others; one at or before the last one's sample is left out."""
        if not self.anchors or sample > self.anchors[-1][0]:
            self.anchors.append((sample, time))

    def time_of(self, sample: int) -> int:
        """Return the time of a sample that was not forgotten."""
        return time_of(self.anchors, sample)

    def part(self, start: int, end: int) -> tuple[Anchor, ...]:
        """Return the anchors that give the times of samples [start, end]."""
        first = max(0, bisect_right(self.anchors, start, key=lambda anchor: anchor[0]) - 1)
        last = bisect_right(self.anchors, end, key=lambda anchor: anchor[0]) + 1
        return tuple(self.anchors[first:last])

    def forget_before(self, sample: int) -> None:
        """Drop the anchors that no sample from ``sample`` on needs."""
        del self.anchors[: max(0, bisect_right(self.anchors, sample, key=lambda a: a[0]) - 1)]
