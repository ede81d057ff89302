"""Draining: the worker was told to stop, so long steps are released rather than finished.

Celery tells the main process only, and lets the pool's children finish, however long they take.
The flag here is shared with them.
"""

import mmap

_begun = mmap.mmap(-1, 1)  # anonymous and shared: children forked later see changes


def share() -> None:
    """Share the flag with the children that are forked from now on, and with no other process."""
    global _begun  # noqa: PLW0603 - as each process has one
    _begun = mmap.mmap(-1, 1)


def begin() -> None:
    """Begin to drain this process and its children; safe in a signal handler."""
    _begun[0] = 1


def has_begun() -> bool:
    """Return whether the worker was told to stop."""
    return _begun[0] != 0
