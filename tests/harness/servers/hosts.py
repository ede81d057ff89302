"""Hosts of their own on this machine: network namespaces, and wires between them that can fail.

A host has its own interfaces, addresses, ports and connections. A wire joins two of them. It is a
thread that carries IP packets between two TUN devices, later or never as the test wants: so what
is lost is lost below TCP, which has to send it again. (The kernel's netem does the same, where it
has been built.)
"""

import ctypes
import fcntl
import heapq
import itertools
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_DEVICE = Path("/dev/net/tun")
_PACKET_BYTES = 65_536
NETWORK = "10.231.0.0/16"
_CENTRE = "10.231.0.1"


class NoHosts(Exception):
    """This machine, or this user, cannot make any; the message says why."""


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace."""

    name: str
    address: str
    """At which the others reach it."""

    @property
    def path(self) -> Path:
        """Name the namespace for ``enter``."""
        return Path("/run/netns", self.name)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Have this thread, and the threads and programs that it starts, be on the host."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            enter(self.path)
            yield
        finally:
            _enter(before)
            os.close(before)


def enter(namespace: Path) -> None:
    """Put this thread into a network namespace."""
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        _enter(descriptor)
    finally:
        os.close(descriptor)


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@dataclass(slots=True)
class Way:
    """What becomes of packets in one direction of a wire."""

    delay_s: float = 0.0
    loss: float = 0.0
    """Which share of them is lost; 1: it is cut."""


@dataclass(slots=True)
class Wire:
    """Carries packets between the centre and another host until it is closed."""

    centre: int
    """The descriptor of the TUN device there."""
    far: int
    rng: random.Random
    out: Way = field(default_factory=Way)
    """From the centre to the other host."""
    back: Way = field(default_factory=Way)
    _closing: bool = False
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._carry, name="wire", daemon=True)
        self._thread.start()

    def mend(self) -> None:
        """Carry all packets at once."""
        self.out = Way()
        self.back = Way()

    def close(self) -> None:
        """Carry nothing more."""
        self._closing = True
        self._thread.join()
        os.close(self.centre)
        os.close(self.far)

    def _carry(self) -> None:
        ready = select.poll()
        ready.register(self.centre, select.POLLIN)
        ready.register(self.far, select.POLLIN)
        under_way: list[tuple[float, int, int, bytes]] = []
        number = itertools.count()
        while not self._closing:
            next_s = under_way[0][0] - time.monotonic() if under_way else 0.05
            for source, _ in ready.poll(max(0.0, 1000 * min(next_s, 0.05))):
                way, target = (
                    (self.out, self.far) if source == self.centre else (self.back, self.centre)
                )
                with suppress(BlockingIOError):
                    while packet := os.read(source, _PACKET_BYTES):
                        if self.rng.random() >= way.loss:
                            arrives = time.monotonic() + way.delay_s
                            heapq.heappush(under_way, (arrives, next(number), target, packet))
            while under_way and under_way[0][0] <= time.monotonic():
                *_, target, packet = heapq.heappop(under_way)
                # A full queue loses packets, as it does in a router.
                with suppress(BlockingIOError):
                    os.write(target, packet)


@contextmanager
def hosts(n_far: int, rng: random.Random) -> Iterator[tuple[Host, list[tuple[Host, Wire]]]]:
    """Make a host in the centre and others, and wire each of these to it.

    Raises:
        NoHosts: it cannot be done here.
    """
    if os.geteuid() != 0:
        raise NoHosts("only root can make network namespaces")
    if shutil.which("ip") is None or not _DEVICE.exists():
        raise NoHosts(f"there is no ip (of iproute2), or no {_DEVICE}")
    with ExitStack() as stack:
        centre = stack.enter_context(_namespace("centre", _CENTRE))
        _ip(centre, "address", "add", f"{_CENTRE}/32", "dev", "lo")
        wired = []
        for number in range(1, n_far + 1):
            near_end, far_end = f"10.231.{number}.1", f"10.231.{number}.2"
            far = stack.enter_context(_namespace(f"far-{number}", far_end))
            wire = Wire(
                _tun(centre, f"far{number}", near_end, far_end),
                _tun(far, "centre", far_end, near_end),
                rng,
            )
            stack.callback(wire.close)
            _ip(far, "route", "add", "default", "dev", "centre")
            wired.append((far, wire))
        yield centre, wired


@contextmanager
def _namespace(name: str, address: str) -> Iterator[Host]:
    host = Host(f"longhand-{os.getpid()}-{name}", address)
    made = subprocess.run(
        ["ip", "netns", "add", host.name], check=False, capture_output=True, text=True
    )
    if made.returncode != 0:
        raise NoHosts(made.stderr.strip())
    try:
        _ip(host, "link", "set", "lo", "up")
        yield host
    finally:
        subprocess.run(["ip", "netns", "delete", host.name], check=True)


def _tun(host: Host, name: str, address: str, peer: str) -> int:
    """Make a TUN device on a host, and return the descriptor of its other end."""
    request = struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
    try:
        with host.inside():
            descriptor = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(descriptor, _TUNSETIFF, request)
    except PermissionError as error:
        raise NoHosts(f"{_DEVICE}: {error.strerror}") from error
    _ip(host, "address", "add", address, "peer", peer, "dev", name)
    _ip(host, "link", "set", name, "up")
    return descriptor


def _ip(host: Host, *words: str) -> None:
    subprocess.run(["ip", "-n", host.name, *words], check=True)


def connections_in_doubt(pid: int) -> int:
    """Return how many connections of a process' host wait to send again what was not acknowledged.

    The kernel tries a second time after 0.2 s, and waits twice as long from time to time: so a
    connection that was cut for 6 s may be silent for 6 s more.
    """
    # The seventh field of a line is the number of unacknowledged repetitions.
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    return sum(int(line.split()[6], 16) > 0 for line in lines)
