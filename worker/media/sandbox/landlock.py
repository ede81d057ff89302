"""Landlock: a process gives up the file system and the network, without any right to do so."""

import ctypes
import os

from worker.media.sandbox.linux import PR_SET_NO_NEW_PRIVS, prctl, syscall

_CREATE_RULESET, _RESTRICT_SELF = 444, 446
"""The same numbers on all architectures."""
_ASK_VERSION = 1
_FILE_RIGHTS = ((5, 16), (3, 15), (2, 14), (1, 13))
"""By version, from <linux/landlock.h>: how many rights to files there are."""
_NETWORK_VERSION, _NETWORK_RIGHTS = 4, 0b11
"""To bind and to connect TCP sockets."""
_SCOPE_VERSION, _SCOPES = 6, 0b11
"""Abstract Unix sockets of, and signals to, processes without these restrictions."""


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scopes", ctypes.c_uint64),
    )


def restrict() -> None:
    """Give up all that the kernel's version knows, for this thread and what it will fork.

    Raises:
        OSError: the kernel lacks Landlock, or it is not enabled.
    """
    version = syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    n_rights = next(rights for least, rights in _FILE_RIGHTS if version >= least)
    rules, n_bytes = _Ruleset(files=(1 << n_rights) - 1), 8
    if version >= _NETWORK_VERSION:
        rules.network, n_bytes = _NETWORK_RIGHTS, 16
    if version >= _SCOPE_VERSION:
        rules.scopes, n_bytes = _SCOPES, 24
    ruleset = syscall(_CREATE_RULESET, ctypes.byref(rules), n_bytes, 0)
    try:
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
