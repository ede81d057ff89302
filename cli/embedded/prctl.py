"""How Linux ties processes to the supervisor; elsewhere these calls do nothing."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>: the signal the kernel sends to a process when its parent's thread dies."""
PR_SET_CHILD_SUBREAPER = 36
"""From <linux/prctl.h>: whether orphaned descendants of this process become its children."""

_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with(parent: int, signum: int) -> None:
    """Have this process, a child of ``parent``, end when that does, even by ``kill -9``."""
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, signum)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)


@contextmanager
def adopting() -> Iterator[None]:
    """Become the parent of the children of those of our children that end meanwhile."""
    if _prctl is not None:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        if _prctl is not None:
            _prctl(PR_SET_CHILD_SUBREAPER, 0)
