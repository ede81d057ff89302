"""Takes the rights of the processes that decode: ``confine_server`` once, ``confine_decoder`` each.

Every measure stands alone, as kernels and containers offer some and refuse others.
"""

import ctypes
import os
import pwd
import resource
from collections.abc import Callable
from dataclasses import dataclass, field

from worker.media.sandbox import linux
from worker.media.sandbox.landlock import restrict
from worker.media.sandbox.seccomp import forbid_system_calls

_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_NEWIPC = 0x1000_0000, 0x4000_0000, 0x0800_0000
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION = 0x2008_0522
_N_CAPABILITIES = 64

_FIRST_UID, _LAST_UID = 61_184, 65_519
"""The range that systemd reserves for users that exist as long as a service runs."""

_LIMITS = {
    "RLIMIT_NOFILE": 0,  # no new descriptor: no file, no socket, no pipe
    "RLIMIT_FSIZE": 0,
    "RLIMIT_CORE": 0,
    "RLIMIT_NPROC": 0,
}


@dataclass(slots=True)
class Confinement:
    """Which measures hold for a process, and why others do not."""

    holds: list[str] = field(default_factory=list)
    lacks: dict[str, str] = field(default_factory=dict)

    def take(self, name: str, measure: Callable[[], object]) -> None:
        """Take a measure."""
        try:
            measure()
        except (OSError, ValueError) as error:
            self.lacks[name] = getattr(error, "strerror", None) or str(error)
        else:
            self.holds.append(name)

    def copy(self) -> "Confinement":
        """Return what holds for a process that this one forks."""
        return Confinement([*self.holds], {**self.lacks})


def confine_server() -> Confinement:
    """Take what the server can do without. All is imported before; only forks follow."""
    confinement = Confinement()
    confinement.take("namespaces", _leave_network)
    if os.geteuid() == 0:
        confinement.take("uid", _become_nobody)
    confinement.take("capabilities", _drop_capabilities)
    confinement.take("landlock", restrict)
    return confinement


def confine_decoder(confinement: Confinement) -> None:
    """Take all but memory, processor time and the open descriptors. ``confinement``: its server's.

    The process must have nothing open but what a decoder may read and write.
    """
    confinement.take("no_new_privileges", _forbid_new_privileges)
    confinement.take("rlimits", _limit_resources)
    confinement.take("seccomp", forbid_system_calls)


def allow_memory(n_bytes: int) -> None:
    """Bound the memory of this process's own. RLIMIT_AS would count shared mappings, too."""
    resource.setrlimit(resource.RLIMIT_DATA, (n_bytes, n_bytes))


def allow_cpu(seconds: int, most_s: int | None = None) -> None:
    """Allow so much processor time from now on; ``most_s``: for good, in all."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    if most_s is not None:
        most = most_s
    soft = int(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(
        resource.RLIMIT_CPU, (soft if most == resource.RLIM_INFINITY else min(soft, most), most)
    )


def _leave_network() -> None:
    """Enter namespaces of its own, without any network. Only root needs no user namespace."""
    user = 0 if os.geteuid() == 0 else _CLONE_NEWUSER
    linux.unshare(user | _CLONE_NEWNET | _CLONE_NEWIPC)


def _become_nobody() -> None:
    """Take a uid that nobody has: files and processes of ``nobody`` are somebody's."""
    uid = next(each for each in range(_FIRST_UID, _LAST_UID + 1) if not _is_taken(each))
    _drop_bounding_set()
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)  # of root also the saved one, so there is no way back


def _is_taken(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _drop_bounding_set() -> None:
    for number in range(_N_CAPABILITIES):
        try:
            linux.prctl(linux.PR_CAPBSET_DROP, number, 0, 0, 0)
        except OSError:  # the kernel has no more, or they are not this process's to drop
            return


def _drop_capabilities() -> None:
    _drop_bounding_set()
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    nothing = (ctypes.c_uint32 * 6)()
    linux.syscall(
        _SYS_CAPSET.get(os.uname().machine, -1), ctypes.byref(header), ctypes.byref(nothing)
    )


def _forbid_new_privileges() -> None:
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Others of its user can neither trace it nor read its memory.
    linux.prctl(linux.PR_SET_DUMPABLE, 0, 0, 0, 0)


def _limit_resources() -> None:
    for name, most in _LIMITS.items():
        resource.setrlimit(getattr(resource, name), (most, most))
