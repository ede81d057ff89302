"""Which of the items that wait make up the next batch."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

LOOK_AHEAD = 4
"""Batches' worth of waiting items among which those of like length are looked for: the more, the
less padding, and the longer may the others wait."""
MOST_PER_WINDOW = 8
"""Short items in the place of one as long as the window: each has costs that do not shrink."""


class Sized(Protocol):
    """An item, and what the device computes for it."""

    @property
    def n_samples(self) -> int: ...


class Chosen(NamedTuple):
    """Indices of items, in their order, and whether the batch has no room for more."""

    indices: list[int]
    is_full: bool


def windows(n_items: int, longest_samples: int, window_samples: int) -> int:
    """Return the size of a batch, rounded up, in windows: all items are padded to the longest."""
    padded = -(-n_items * longest_samples // window_samples)
    return max(padded, -(-n_items // MOST_PER_WINDOW))


def count_fitting(items: Sequence[Sized], size: int, window_samples: int) -> int:
    """Return how many of the first items make a batch of at most ``size`` windows; at least 1."""
    longest = 0
    for n, item in enumerate(items):
        longest = max(longest, item.n_samples)
        if n and windows(n + 1, longest, window_samples) > size:
            return n
    return len(items)


def choose(waiting: Sequence[Sized], size: int, window_samples: int) -> Chosen:
    """Choose a batch of at most ``size`` windows from items that may share one, oldest first.

    The oldest is in it, so none waits for ever. With it go those of the next ``LOOK_AHEAD`` batches
    that are nearest to it in length; among equals the oldest.
    """
    oldest = waiting[0].n_samples
    ahead = range(min(len(waiting), LOOK_AHEAD * size * MOST_PER_WINDOW))
    nearest = sorted(ahead, key=lambda i: (i > 0, abs(waiting[i].n_samples - oldest), i))
    n = count_fitting([waiting[i] for i in nearest], size, window_samples)
    longest = max(waiting[i].n_samples for i in nearest[:n])
    return Chosen(sorted(nearest[:n]), windows(n + 1, longest, window_samples) > size)
