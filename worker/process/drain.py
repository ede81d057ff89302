"""Draining: the worker claims nothing any more, because it stops or because it was asked to.

A worker that was told to stop also releases long steps rather than finish them. Celery tells the
main process only, and lets the pool's children finish, however long they take. One that is drained
by request finishes what it has in hand and goes on when it is resumed; its heartbeat, which is the
main process's, learns of that. The flags here are shared with the children.
"""

import mmap

_STOPPING, _REQUESTED = 0, 1

_flags = mmap.mmap(-1, 2)  # anonymous and shared: children forked later see changes


def share() -> None:
    """Share the flags with the children that are forked from now on, and with no other process."""
    global _flags  # noqa: PLW0603 - as each process has its own
    _flags = mmap.mmap(-1, 2)


def begin() -> None:
    """Begin to stop this process and its children; safe in a signal handler."""
    _flags[_STOPPING] = 1


def has_begun() -> bool:
    """Return whether the worker was told to stop."""
    return _flags[_STOPPING] != 0


def request(*, drained: bool) -> None:
    """Have this process and its children claim nothing, or claim again."""
    _flags[_REQUESTED] = drained


def claims_nothing() -> bool:
    """Return whether the worker was told to stop, or is drained by request."""
    return has_begun() or _flags[_REQUESTED] != 0
