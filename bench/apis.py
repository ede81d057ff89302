"""API processes of one or two trees, side by side on the same servers, to compare what they do."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import psycopg

from bench.platform import ROOT
from cli.embedded.ports import free_ports
from cli.embedded.servers import Endpoints, running_servers
from cli.embedded.services import service_environment

_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Side:
    """A tree, and the environment of its processes: a database of its own on the shared servers."""

    name: str
    tree: Path
    environment: dict[str, str]

    @property
    def conninfo(self) -> str:
        """The database, as libpq wants it."""
        return self.environment["LONGHAND_DATABASE_URL"].replace("+psycopg", "", 1)


@dataclass(frozen=True, slots=True)
class Api:
    """A running API process."""

    port: int
    process: psutil.Process

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    def cpu_s(self) -> float:
        """Return the seconds of a core that it has used so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def sides(before: Path | None) -> Iterator[list[Side]]:
    """Yield this tree and, where there is one, the tree to compare with, which comes first."""
    trees = {"now": ROOT} if before is None else {"before": before.resolve(), "now": ROOT}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_servers(Path(folder) / "servers") as endpoints,
    ):
        yield [_side(name, tree, endpoints) for name, tree in trees.items()]


def _side(name: str, tree: Path, endpoints: Endpoints) -> Side:
    environment = service_environment(endpoints) | {
        "PYTHONPATH": str(tree),
        "LONGHAND_DEFAULT_MODEL": "oracle",
        "LONGHAND_ON_DEMAND_MODELS": "oracle",
        "LONGHAND_LOG_LEVEL": "WARNING",
    }
    url = environment["LONGHAND_DATABASE_URL"]
    with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "bench_{name}" TEMPLATE template0'.encode())
    environment["LONGHAND_DATABASE_URL"] = re.sub(r"/[^/]*$", f"/bench_{name}", url)
    command = [sys.executable, "-P", "-m", "worker", "migrate"]
    subprocess.run(command, env=environment, cwd="/", check=True)
    return Side(name, tree, environment)


@contextmanager
def api(side: Side) -> Iterator[Api]:
    """Run ``python -m api`` of a side's tree; yield it once it is ready."""
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "api", "--port", str(port)], env=side.environment, cwd="/"
    )
    try:
        running = Api(port, psutil.Process(process.pid))
        _await_ready(running, process)
        yield running
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def apis(of: list[Side]) -> Iterator[list[Api]]:
    """Run one API process for each side."""
    with ExitStack() as stack:
        yield [stack.enter_context(api(side)) for side in of]


def _await_ready(running: Api, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{running.url}/health/startup").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit("bench: the API did not become ready")


def submit(running: Api, n_jobs: int) -> list[str]:
    """Make jobs that nobody will transcribe; return their ids."""
    data = {"cache": "false"}
    with httpx.Client(base_url=running.url, timeout=60) as client:
        answers = (
            client.post("/jobs", data=data, files={"file": ("a.wav", os.urandom(64))})
            for _ in range(n_jobs)
        )
        return [answer.raise_for_status().json()["id"] for answer in answers]
