"""Redis commands by service, from the server's own MONITOR."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bench.platform import Platform

WAITS = {
    "brpop",
    "blpop",
    "blmove",
    "bzpopmin",
    "bzpopmax",
    "blmpop",
    "bzmpop",
    "ping",
    "heartbeat",
}
"""How consumers wait for messages, and see and say meanwhile that all are there."""
_LINE = re.compile(
    rb'^\+[\d.]+ \[\d+ \S*?(?P<port>\d*)\] "(?P<name>[^"]*)"'
    rb'(?P<heartbeat> "[^"]*worker\.heartbeat")?'
)
_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Command:
    """One command that a client sent."""

    service: str
    name: str
    """In lower case, such as 'publish'; of a worker's heartbeat event 'heartbeat'."""


@dataclass(slots=True)
class CommandLog:
    """What reaches a platform's Redis from now on."""

    platform: Platform
    connection: socket.socket
    _rest: bytes = b""
    _ports: dict[int, str] = field(default_factory=dict)

    def read(self) -> list[Command]:
        """Return what was sent since the last call, in order."""
        self._ports |= self.platform.services_by_port()
        *lines, self._rest = (self._rest + b"".join(self._received())).split(b"\r\n")
        return [
            Command(
                self._ports.get(int(found["port"] or 0), "unknown"),
                "heartbeat" if found["heartbeat"] else found["name"].decode().lower(),
            )
            for line in lines
            if (found := _LINE.match(line))
        ]

    def _received(self) -> Iterator[bytes]:
        while True:
            try:
                yield self.connection.recv(_READ_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return


@contextmanager
def command_log(platform: Platform) -> Iterator[CommandLog]:
    """Have Redis report every command while the block runs."""
    url = urlsplit(platform.environment["LONGHAND_BROKER_URL"])
    with socket.create_connection((url.hostname or "", url.port or 0)) as connection:
        connection.sendall(f"AUTH {url.password}\r\nMONITOR\r\n".encode())
        answer = b""
        while answer.count(b"\r\n") < 2:
            answer += connection.recv(_READ_BYTES)
        if not answer.startswith(b"+OK\r\n+OK\r\n"):
            raise SystemExit(f"bench: Redis does not report its commands: {answer.decode()!r}")
        yield CommandLog(platform, connection)
