"""Linux's system calls that Python does not offer; elsewhere they raise ``OSError``."""

import ctypes
import errno
import os
import sys

IS_LINUX = sys.platform == "linux"

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
"""From <linux/prctl.h>."""

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, *values: object) -> None:
    """Set something of this process."""
    _call("prctl", option, *map(_wide, values))


def unshare(flags: int) -> None:
    """Move this process to new namespaces."""
    _call("unshare", flags)


def syscall(number: int, *values: object) -> int:
    """Make a system call."""
    return _call("syscall", *map(_wide, (number, *values)))


def _wide(value: object) -> object:
    """Return an argument whose upper half is defined."""
    return ctypes.c_long(value) if isinstance(value, int) else value


def _call(name: str, *values: object) -> int:
    if not IS_LINUX:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    result: int = getattr(_libc, name)(*values)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
