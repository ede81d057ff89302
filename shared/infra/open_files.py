"""The limit of open files, which is the limit of connections, too."""

import resource

OPEN_FILES = 8192
"""Many systems allow a process 1024 open files unless it asks for more."""


def allow_open_files() -> int:
    """Raise the limit of open files to ``OPEN_FILES``, or as far as the system allows.

    Returns the limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return OPEN_FILES if soft == resource.RLIM_INFINITY else soft
