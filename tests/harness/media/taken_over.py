"""A server of decoders that a file takes over: ``DecoderServer(taken_over.__name__)``.

The file says what to do with the process. What came of it is told as the refusal of the file.
"""

import ctypes
import errno
import io
import json
import mmap
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shared.infra.errors import UnreadableMedia
from shared.speech.audio.decoded import HEADER, RANGE, Kind, encode_record
from worker.media.sandbox import files, server

_libc = ctypes.CDLL(None, use_errno=True)
_PTRACE_ATTACH = 16
_MAP_GROWSDOWN = 0x100


def called(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def trace(pid: int) -> None:
    called(_libc.ptrace(_PTRACE_ATTACH, pid, None, None))


def peek(pid: int) -> None:
    called(_libc.process_vm_readv(pid, None, 0, None, 0, 0))


def map_memory(flags: int) -> None:
    mmap.mmap(-1, 4096, flags=flags)


def run_code() -> None:
    called(_libc.mprotect(0, 4096, 7))


FAILING: Mapping[str, Callable[[int], object]] = {
    "open a file": lambda _: Path(__file__).read_text(),
    "make a file": lambda _: os.open("/tmp/taken-over", os.O_WRONLY | os.O_CREAT),
    "list a folder": lambda _: [*Path("/").iterdir()],
    "read the parent's environment": lambda pid: Path(f"/proc/{pid}/environ").read_bytes(),
    "read its own environment": lambda _: Path("/proc/self/environ").read_bytes(),
    "fork": lambda _: os.fork(),
    "end the parent": kill,
    "lift a limit": lambda _: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    "limit the parent": lambda pid: resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1)),
    "become root": lambda _: os.setuid(0),
    "make code": lambda _: run_code(),
    "take memory that no limit counts": lambda _: map_memory(mmap.MAP_SHARED),
    "take more of it": lambda _: map_memory(mmap.MAP_PRIVATE | _MAP_GROWSDOWN),
    "get a pair of sockets": lambda _: called(_libc.socketpair(1, 1, 0, (ctypes.c_int * 2)())),
    "copy a descriptor": lambda _: os.dup(0),
}
"""What is tried and fails; its argument is the pid of the worker."""

DEADLY: Mapping[str, Callable[[int], object]] = {
    "open a network socket": lambda _: socket.socket(),
    "connect": lambda _: called(_libc.connect(0, None, 0)),
    "open a Unix socket": lambda _: socket.socket(socket.AF_UNIX),
    "run a program": lambda _: os.execv(sys.executable, [sys.executable]),
    "trace the parent": trace,
    "read the parent's memory": peek,
}
"""What ends the process that tries it."""


def decode_file(connection: socket.socket, order: Mapping[str, Any]) -> None:
    """Do what the file says, in the place of decoding it."""
    size = order["bytes"]
    inline = files.receive(connection, size) if size <= files.READ_BYTES else b'{"do": "read"}'
    wanted: dict[str, Any] = json.loads(inline)
    tell = files._Teller(connection).tell
    match wanted["do"]:
        case "try all that fails":
            outcomes = {name: outcome(act, wanted["pid"]) for name, act in FAILING.items()}
            tell(Kind.REFUSED, {"code": UnreadableMedia.code, "detail": json.dumps(outcomes)})
        case "try":
            DEADLY[wanted["act"]](wanted["pid"])
        case "look around":
            seen = {
                "environment": dict(os.environ),
                "descriptors": [fd for fd in range(256) if is_open(fd)],
            }
            tell(Kind.REFUSED, {"code": UnreadableMedia.code, "detail": json.dumps(seen)})
        case "abort":
            os.abort()
        case "spin":
            files.allow_cpu(1, 1)
            while True:
                pass
        case "sleep":
            time.sleep(60)
        case "go on":  # after the worker has left
            connection.shutdown(socket.SHUT_RDWR)
            while True:
                time.sleep(60)
        case "tell anchors":
            for first in range(0, 10_000_000, 10_000):
                anchors = [(first + each, 0) for each in range(10_000)]
                facts = {"channels": 1, "at": 0, "anchors": anchors, "known_until": 0}
                tell(Kind.AUDIO, facts, bytes(2))
        case "dribble":
            connection.sendall(HEADER.pack(Kind.AUDIO, 1 << 19))
            while True:
                connection.sendall(b"\0")
                time.sleep(0.05)
        case "eat":
            eaten = [io.BytesIO(bytes(1 << 20)) for _ in range(1 << 20)]
            tell(Kind.DONE, {"n": len(eaten)})
        case "err":
            raise ZeroDivisionError("a bug\n2026-11-27 CRITICAL a forged line\x1b[2J")
        case "record":
            connection.sendall(bytes.fromhex(wanted["bytes"]))
        case "read":
            connection.sendall(encode_record(Kind.READ, RANGE.pack(size - 4, 8)))


def is_open(fd: int) -> bool:
    try:
        os.lseek(fd, 0, os.SEEK_CUR)
    except OSError as error:
        return error.errno != errno.EBADF
    return True


def outcome(act: Callable[[int], object], pid: int) -> str:
    try:
        act(pid)
    except OSError as error:
        return type(error).__name__
    except ValueError:
        return "ValueError"
    return "done"


if __name__ == "__main__":
    files._decode_file = lambda connection, order, _: decode_file(connection, order)
    server.serve(int(sys.argv[1]))
