"""The C library's allocator, told to give back what an API process no longer uses.

Of itself glibc's ``malloc`` keeps what a busy minute took. It gives each thread an arena of its
own, and once a part of an upload (8 MiB) is freed, it takes later ones from a heap whose top it
hardly ever returns.
"""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""From <malloc.h>. The first two stay as they are set; by default they grow."""

_SETTINGS = {
    # Larger blocks, which are parts of uploads, have mappings of their own and end with them. What
    # a socket gives at once is smaller, and comes so often that mappings would cost time.
    _MMAP_THRESHOLD: 1 << 20,
    _TRIM_THRESHOLD: 4 << 20,
    _ARENA_MAX: 2,
}


def bound_allocator() -> None:
    """Bound what this process keeps; to be called before it has threads.

    Other C libraries have no such settings, or ignore them.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in _SETTINGS.items():
            mallopt(name, value)
