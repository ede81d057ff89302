"""A filter of system calls (seccomp): what a decoder needs, and nothing else."""

import ctypes
import errno
import os
import platform
from dataclasses import dataclass
from functools import cache

from worker.media.sandbox.linux import PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, prctl

_FILTER = 2
_ALLOW, _FAIL, _KILL = 0x7FFF_0000, 0x0005_0000 | errno.EPERM, 0x8000_0000
"""What becomes of a call. Failing is the default, as libraries try things that they can do without.
"""
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
"""Instructions of a classic BPF program: load a word, two conditional jumps, return."""
_NUMBER, _ARCHITECTURE = 0, 4
_PROT_EXEC = 4
_MAP_SHARED, _MAP_GROWSDOWN = 0x001, 0x100
"""Memory that RLIMIT_DATA does not count."""
_OWN_PID = 0xFFFF_FFFF
"""In the program, in place of the pid of the process that will run it."""


def _argument(index: int) -> int:
    """Return where the lower half of a call's argument lies."""
    return 16 + 8 * index


@dataclass(frozen=True, slots=True)
class _Table:
    """The numbers of an architecture's system calls."""

    architecture: int
    """AUDIT_ARCH_... of <linux/audit.h>."""
    allowed: dict[str, int]
    map_memory: tuple[int, int]
    """mmap and mprotect: without executable memory, and all of it within RLIMIT_DATA."""
    prlimit64: int
    """Of this process alone."""
    tgkill: int
    """This process alone, as abort(3) does."""
    killed: dict[str, int]
    """No library tries these, so a process that does is under a stranger's control."""


def _numbers(names: str) -> dict[str, int]:
    return {name: int(number) for name, _, number in (e.partition(":") for e in names.split())}


_TABLES = {
    "x86_64": _Table(
        0xC000_003E,
        _numbers(
            "read:0 write:1 recvfrom:45 sendto:44 futex:202 close:3 munmap:11 madvise:28 "
            "brk:12 mremap:25 getrusage:98 lseek:8 clock_gettime:228 gettimeofday:96 "
            "clock_getres:229 times:100 rt_sigaction:13 rt_sigprocmask:14 rt_sigreturn:15 "
            "sigaltstack:131 nanosleep:35 clock_nanosleep:230 restart_syscall:219 poll:7 "
            "getpid:39 gettid:186 getrandom:318 uname:63 fstat:5 sched_yield:24 "
            "sched_getaffinity:204 getrlimit:97 membarrier:324 set_robust_list:273 rseq:334 "
            "exit:60 exit_group:231"
        ),
        (9, 10),
        302,
        234,
        _numbers(
            "execve:59 execveat:322 ptrace:101 socket:41 connect:42 process_vm_readv:310 "
            "process_vm_writev:311 pidfd_getfd:438 bpf:321 perf_event_open:298 "
            "io_uring_setup:425 userfaultfd:323 mount:165 unshare:272 setns:308 "
            "open_by_handle_at:304 add_key:248 keyctl:250 init_module:175 finit_module:313"
        ),
    ),
    "aarch64": _Table(
        0xC000_00B7,
        _numbers(
            "read:63 write:64 recvfrom:207 sendto:206 futex:98 close:57 munmap:215 "
            "madvise:233 brk:214 mremap:216 getrusage:165 lseek:62 clock_gettime:113 "
            "gettimeofday:169 clock_getres:114 times:153 rt_sigaction:134 "
            "rt_sigprocmask:135 rt_sigreturn:139 sigaltstack:132 nanosleep:101 "
            "clock_nanosleep:115 restart_syscall:128 ppoll:73 getpid:172 gettid:178 "
            "getrandom:278 uname:160 fstat:80 sched_yield:124 sched_getaffinity:123 "
            "getrlimit:163 membarrier:283 set_robust_list:99 rseq:293 exit:93 exit_group:94"
        ),
        (222, 226),
        261,
        131,
        _numbers(
            "execve:221 execveat:281 ptrace:117 socket:198 connect:203 process_vm_readv:270 "
            "process_vm_writev:271 pidfd_getfd:438 bpf:280 perf_event_open:241 "
            "io_uring_setup:425 userfaultfd:282 mount:40 unshare:97 setns:268 "
            "open_by_handle_at:265 add_key:217 keyctl:219 init_module:105 finit_module:273"
        ),
    ),
}


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("first", ctypes.POINTER(_Instruction)))


def forbid_system_calls() -> None:
    """Forbid all but a decoder's system calls, for good. A 32-bit or x32 call is none of these.

    Raises:
        OSError: the kernel has no such filters, or forbids them.
    """
    program = prepare_program()
    for instruction in program:
        if instruction.value == _OWN_PID:
            instruction.value = os.getpid()
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl(PR_SET_SECCOMP, _FILTER, ctypes.byref(_Program(len(program), program)), 0, 0)


@cache
def prepare_program() -> "ctypes.Array[_Instruction]":
    """Return the program, which is made once: forked processes only enter their own pid.

    Raises:
        OSError: no system calls are known of this machine.
    """
    table = _TABLES.get(platform.machine())
    if table is None:
        raise OSError(errno.ENOSYS, f"no system calls are known of {platform.machine()}")
    instructions = _instructions(table)
    return (_Instruction * len(instructions))(*(_Instruction(*each) for each in instructions))


def _instructions(table: _Table) -> list[tuple[int, int, int, int]]:
    """Return the program; each call has a rule that ends in a return."""
    mmap, mprotect = table.map_memory
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        *((_EQUAL, 1, 0, table.architecture), (_RETURN, 0, 0, _KILL)),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for number in table.allowed.values():
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    program += [
        *((_EQUAL, 0, 6, mmap), (_LOAD, 0, 0, _argument(2)), (_ANY_BIT, 2, 0, _PROT_EXEC)),
        *((_LOAD, 0, 0, _argument(3)), (_ANY_BIT, 0, 1, _MAP_SHARED | _MAP_GROWSDOWN)),
        *((_RETURN, 0, 0, _FAIL), (_RETURN, 0, 0, _ALLOW)),
        *((_EQUAL, 0, 4, mprotect), (_LOAD, 0, 0, _argument(2))),
        *((_ANY_BIT, 0, 1, _PROT_EXEC), (_RETURN, 0, 0, _FAIL), (_RETURN, 0, 0, _ALLOW)),
    ]
    for number, wanted in ((table.prlimit64, 0), (table.tgkill, _OWN_PID)):
        program += [
            *((_EQUAL, 0, 4, number), (_LOAD, 0, 0, _argument(0))),
            *((_EQUAL, 0, 1, wanted), (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _FAIL)),
        ]
    for number in table.killed.values():
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _KILL)]
    return [*program, (_RETURN, 0, 0, _FAIL)]
