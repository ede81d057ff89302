"""The processors that this process may use, and how calls of an engine share them."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

MOST_STREAMS = 4
"""Each call needs memory of its own."""
MOST_ALONE = 8
"""Threads of a call that is alone, unless its share is larger: small operations gain from few."""

_CPUINFO = Path("/proc/cpuinfo")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""A container's limit (cgroup v2), such as "200000 100000": microseconds of processor time in each
period of so many; "max" is no limit."""


class Shares(NamedTuple):
    """How many calls run at the same time, and the threads of each."""

    streams: int
    threads: int
    """Of a call beside others."""
    alone: int
    """Of a call that begins while no other runs."""


def share_processors() -> Shares:
    """Return how calls share the processors.

    Threads of one call meet after each of its operations, and all wait where one is late. Calls
    side by side never meet, so they do more together, but each of them takes longer.
    """
    n = n_processors()
    streams = min(n, MOST_STREAMS)
    return Shares(streams, n // streams, max(n // streams, min(n, MOST_ALONE)))


def n_processors(quota: Path = _QUOTA) -> int:
    """Return how many there are, by the process's affinity and its container's limit."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        limit_us, period_us = quota.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return n
    return n if limit_us == "max" else max(1, min(n, round(int(limit_us) / int(period_us))))


def multiplies_bfloat16(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether the processors multiply matrices of bfloat16 faster than others (AMX)."""
    try:
        return "amx_bf16" in cpuinfo.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return False


class CallsUnderWay:
    """Tells each call whether it is alone as it begins."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n = 0

    @contextmanager
    def begin(self) -> Iterator[bool]:
        """Count a call while the block runs; yield whether there was no other."""
        with self._lock:
            is_alone = self._n == 0
            self._n += 1
        try:
            yield is_alone
        finally:
            with self._lock:
                self._n -= 1
