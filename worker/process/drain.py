"""Draining: the worker claims nothing any more, because it stops or because it was asked to.

A worker that was told to stop also releases long steps rather than finish them. Celery tells the
main process only, and lets the pool's children finish, however long they take. One that is drained
by request finishes what it has in hand and goes on when it is resumed; its heartbeat, which is the
main process's, learns of that. Requests are noted by queue, as a process may be several workers:
one for each model. The flags here are shared with the children.
"""

import mmap
from collections.abc import Sequence

_stopping = mmap.mmap(-1, 1)  # anonymous and shared: children forked later see changes
_drained = mmap.mmap(-1, 1)
"""One flag for each queue."""
_places: dict[str, int] = {}


def share(queues: Sequence[str]) -> None:
    """Share flags for these queues with the children forked from now on, and no other process."""
    global _stopping, _drained, _places  # noqa: PLW0603 - as each process has its own
    _stopping, _drained = mmap.mmap(-1, 1), mmap.mmap(-1, len(queues))
    _places = {queue: place for place, queue in enumerate(queues)}


def begin() -> None:
    """Begin to stop this process and its children; safe in a signal handler."""
    _stopping[0] = 1


def has_begun() -> bool:
    """Return whether the worker was told to stop."""
    return _stopping[0] != 0


def request(queue: str, *, drained: bool) -> None:
    """Have this process and its children claim nothing from a queue, or claim again."""
    _drained[_places[queue]] = drained


def claims_nothing(queue: str) -> bool:
    """Return whether nothing is claimed from a queue: the worker stops or is drained by request."""
    return has_begun() or (queue in _places and _drained[_places[queue]] != 0)
