"""Loopback TCP ports: free ones, listening on them, and whether a server answers."""

import socket
import time
from contextlib import suppress

from port_for import PortForException, available_good_ports, select_random

from cli.errors import CommandError, os_reason

BACKLOG = 512
"""Connections that may wait to be accepted, for instance while the API is restarted."""
PROBE_LIMIT_S = 0.5
"""How long a server that is starting is waited for before it is asked again."""


def free_ports(count: int) -> list[int]:
    """Return distinct ports that are free at this moment.

    They lie outside the range from which the system takes ports for connections and for programs
    that ask for any port. So a port stays free until its server listens, and while that restarts.

    Raises:
        CommandError: there are too few.
    """
    # If that range covers all ports, a server may find its port taken; it is then given another.
    candidates = available_good_ports() or set(range(1024, 65_536))
    ports: list[int] = []
    for _ in range(count):
        try:
            ports.append(select_random(candidates, exclude_ports=ports))
        except PortForException as error:
            raise CommandError("no loopback port is free for the embedded servers") from error
    return ports


def reachable(host: str) -> str:
    """Return the address at which this machine reaches what listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def listen(port: int, option: str, host: str = "127.0.0.1") -> socket.socket:
    """Return a socket that listens on a port; 0 takes any free one.

    Raises:
        CommandError: the port is taken; the message names the option that chooses another.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CommandError(
            f"cannot listen on {host}:{port}: {os_reason(error)}; choose another with {option}"
        ) from error
    return listener


def answer(
    port: int,
    request: bytes,
    *,
    n_bytes: int,
    within_s: float = PROBE_LIMIT_S,
    host: str = "127.0.0.1",
) -> bytes:
    """Send a request and return the first ``n_bytes`` of the answer.

    It is shorter if the connection is refused or closed, or silent for the rest of ``within_s``.
    A connection that is merely accepted proves nothing: the kernel does that for frozen processes.
    """
    deadline_s = time.monotonic() + within_s
    received = b""
    with suppress(OSError), socket.create_connection((host, port), within_s) as connection:
        connection.sendall(request)
        while len(received) < n_bytes:
            connection.settimeout(max(0.001, deadline_s - time.monotonic()))
            if not (part := connection.recv(n_bytes - len(received))):
                break
            received += part
    return received


def answers_http(
    port: int, path: str = "/", *, within_s: float = PROBE_LIMIT_S, host: str = "127.0.0.1"
) -> bool:
    """Return whether an HTTP server answers, with whatever status."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    return answer(port, request.encode(), n_bytes=5, within_s=within_s, host=host) == b"HTTP/"
