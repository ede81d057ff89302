"""The processors that this process may use."""

import os


def n_processors() -> int:
    """Return how many there are, by the process's affinity where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
