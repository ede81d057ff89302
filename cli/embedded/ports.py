"""Loopback TCP ports: free ones, listening on them, and whether whoever listens answers."""

import socket
import time

from port_for import PortForException, available_good_ports, select_random

from cli.errors import CommandError, os_reason

BACKLOG = 512
"""Connections that wait to be accepted, during a restart of the API for instance."""


def free_ports(count: int) -> list[int]:
    """Return distinct ports that are free at this moment.

    They lie outside the range from which the system serves whoever asks for any port. So none is
    given away before its server listens, or while that is being started again.

    Raises:
        CommandError: there are too few.
    """
    # Where the range takes up everything, a server that finds its port taken is given another.
    candidates = available_good_ports() or set(range(1024, 65_536))
    ports: list[int] = []
    for _ in range(count):
        try:
            ports.append(select_random(candidates, exclude_ports=ports))
        except PortForException as error:
            raise CommandError("no loopback port is free for the embedded servers") from error
    return ports


def listen(port: int, option: str) -> socket.socket:
    """Return a socket that listens on a port; 0 takes any free one.

    Raises:
        CommandError: the port is taken; the message names the option that chooses another.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CommandError(
            f"cannot listen on 127.0.0.1:{port}: {os_reason(error)}; choose another with {option}"
        ) from error
    return listener


def accepts(port: int, *, within_s: float) -> bool:
    """Whether a connection is accepted; the kernel does that for a frozen process, too."""
    try:
        with socket.create_connection(("127.0.0.1", port), within_s):
            return True
    except OSError:
        return False


def answer(port: int, request: bytes, *, n_bytes: int, within_s: float) -> bytes:
    """Send a request and return the first ``n_bytes`` of the answer.

    Fewer where the connection was closed, refused, or silent for the rest of ``within_s``.
    """
    deadline_s = time.monotonic() + within_s
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", port), within_s) as connection:
            connection.sendall(request)
            while len(received) < n_bytes:
                connection.settimeout(max(0.001, deadline_s - time.monotonic()))
                if not (part := connection.recv(n_bytes - len(received))):
                    break
                received += part
    except OSError:
        pass
    return received


def answers_http(port: int, path: str, *, within_s: float) -> bool:
    """Whether an HTTP server answers, whatever it says."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    return answer(port, request.encode(), n_bytes=5, within_s=within_s) == b"HTTP/"
