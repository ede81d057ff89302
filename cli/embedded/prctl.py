"""What Linux lets a process set for itself (prctl); on other systems these functions do nothing."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>: the signal that the kernel sends when the parent's thread dies."""
PR_SET_NAME = 15
"""What ``ps`` and ``top`` show, of at most 15 bytes."""
PR_SET_CHILD_SUBREAPER = 36
"""Whether the process becomes the parent of descendants that lose theirs."""

_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with(parent: int, signum: int) -> None:
    """End this process, a child of ``parent``, when the parent ends, even by ``kill -9``."""
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, signum)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)


def set_name(name: str) -> None:
    """Name this process; the name is cut after 15 bytes."""
    if _prctl is not None:
        _prctl(PR_SET_NAME, name.encode())


@contextmanager
def adopting() -> Iterator[None]:
    """While the block runs, become the parent of grandchildren whose parent ends."""
    if _prctl is not None:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        if _prctl is not None:
            _prctl(PR_SET_CHILD_SUBREAPER, 0)
