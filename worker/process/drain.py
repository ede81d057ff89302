"""Draining: this worker was told to stop, so a long step is released rather than finished.

Celery tells the main process alone and lets the pool's children finish, however long they take;
this is where they look.
"""

import mmap

_begun = mmap.mmap(-1, 1)  # anonymous and shared: children forked later see it change


def begin() -> None:
    """Start draining this process and its children; safe in a signal handler."""
    _begun[0] = 1


def has_begun() -> bool:
    """Tell whether the worker was told to stop."""
    return _begun[0] != 0
