"""The processors that this process may use, and how calls of an engine share them."""

import os
from pathlib import Path
from typing import NamedTuple

MOST_STREAMS = 4
"""Each call needs memory of its own, and a lone chunk has the threads of one call only."""

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""A container's limit (cgroup v2), "200000 100000": microseconds of processor time, or max, in
so many."""


class Shares(NamedTuple):
    """How many calls run at the same time, and the threads of each."""

    streams: int
    threads: int


def share_processors() -> Shares:
    """Return how calls share the processors.

    Threads of one call meet after each of its operations, and all wait where one is late. Calls
    side by side never meet.
    """
    n = n_processors()
    streams = min(n, MOST_STREAMS)
    return Shares(streams, n // streams)


def n_processors(quota: Path = _QUOTA) -> int:
    """Return how many there are, by the process's affinity and its container's limit."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        limit_us, period_us = quota.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return n
    return n if limit_us == "max" else max(1, min(n, round(int(limit_us) / int(period_us))))
