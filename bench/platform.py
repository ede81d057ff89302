"""A running ``longhand up``, seen from outside: its processes, their CPU time and memory.

Nothing here imports the platform, so it may be that of another tree of the source.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg

ROOT = Path(__file__).resolve().parent.parent
_STOP_LIMIT_S = 60.0
_ENVIRONMENT = {"LONGHAND_KEEP_LISTENING_S": "0"}
"""No listening copies, which the embedded stack makes and a production makes if it is told to."""


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform with its own data directory."""

    tree: Path
    """Root of the source that it runs."""
    data: Path
    url: str
    """Of its API."""
    supervisor: psutil.Process
    ready_s: float
    """From the command to its line 'ready'."""

    @property
    def services(self) -> dict[str, psutil.Process]:
        """Return the processes that the supervisor started, by name; their children left out."""
        return services(self.data)

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of its workers: the URLs of the servers, credentials included."""
        # All services are forked from one process, whose environment is the API's.
        found = dict(self.services["api"].environ())
        password = self._secrets().get("postgres_worker_password")
        if password is not None:
            login = f"//longhand_worker:{password}@"
            found["LONGHAND_DATABASE_URL"] = re.sub(
                "//.*@", login, found["LONGHAND_DATABASE_URL"], count=1
            )
        return found

    def database(self) -> psycopg.Connection:
        """Connect to its Postgres as its superuser, in autocommit mode."""
        url = urlsplit(self.environment["LONGHAND_DATABASE_URL"])
        return psycopg.connect(
            host=url.hostname,
            port=url.port,
            dbname=url.path.strip("/"),
            user="longhand",
            password=self._secrets()["postgres_password"],
            autocommit=True,
        )

    def _secrets(self) -> dict[str, str]:
        secrets: dict[str, str] = json.loads((self.data / "credentials.json").read_text())
        return secrets

    def services_by_port(self) -> dict[int, str]:
        """Return whose the connected local TCP ports are now: port -> service."""
        ports = {}
        for name, service in self.services.items():
            for process in _family(service):
                with suppress(psutil.Error):
                    for connection in process.net_connections("tcp4"):
                        if connection.raddr:
                            ports[connection.laddr.port] = name
        return ports

    def cpu_s(self) -> dict[str, float]:
        """Return the seconds of user and system time that each service has used since its start.

        Children are included, also those that have ended. The supervisor is 'supervisor'.
        """
        used = {name: sum(map(_cpu_s, _family(root))) for name, root in self.services.items()}
        times = self.supervisor.cpu_times()
        return used | {"supervisor": times.user + times.system}


def services(data: Path) -> dict[str, psutil.Process]:
    """Return what the supervisor of a data directory has started, by name."""
    record = json.loads((data / "stack.json").read_text())
    return {child["name"]: psutil.Process(child["pid"]) for child in record["children"]}


def command(*arguments: str) -> list[str]:
    """Return the command line that runs ``longhand`` in this environment."""
    return [sys.executable, "-m", "cli.main", *arguments]


@contextmanager
def platform(
    data: Path,
    model: str,
    *,
    tree: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "cli.main"),
) -> Iterator[Platform]:
    """Run ``longhand up`` on a free port; stop it with SIGTERM afterwards.

    Args:
        data: the data directory, made on first use.
        model: id of the one model that it serves.
        tree: root of the source to run.
        environment: variables that are added to this process's own.
        program: what Python runs with the arguments of ``longhand``; the tree is on its path.
    """
    started = time.monotonic()
    # This process's own tree has set it, and another one may not.
    inherited = {name: each for name, each in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    arguments = ["up", "--port", "0", "--data", str(data), "--model", model]
    process = subprocess.Popen(
        [sys.executable, "-P", *program, *arguments],
        cwd=tree,
        env={**inherited, **_ENVIRONMENT, "PYTHONPATH": str(tree), **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout or ():
            if line.startswith("ready "):
                ready_s = time.monotonic() - started
                yield Platform(tree, data, line.split()[1], psutil.Process(process.pid), ready_s)
                return
        sys.exit(f"bench: the platform of {tree} did not become ready")
    finally:
        process.terminate()
        process.wait(_STOP_LIMIT_S)


@dataclass
class PeakMemory:
    """Samples the memory of a platform's services, forked children included, 10 times a second.

    RSS counts pages shared with other processes in each of them. A long-lived Postgres backend
    touches more and more of the buffers that all backends share, whose size is a setting; so what
    is a process's own is kept apart.
    """

    data: Path
    peaks: dict[str, int] = field(default_factory=dict)
    """Service name -> the largest RSS of any one of its processes, in bytes."""
    own_peaks: dict[str, int] = field(default_factory=dict)
    """The same without shared pages, neither shared memory's nor those of files."""

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Sample while the block runs."""
        done = threading.Event()
        thread = threading.Thread(target=self._sample_until, args=(done,))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _sample_until(self, done: threading.Event) -> None:
        roots = services(self.data)
        while not done.wait(0.1):
            for name, root in roots.items():
                for process in _family(root):
                    with suppress(psutil.NoSuchProcess):
                        self._note(name, process.memory_info())

    def _note(self, name: str, memory: Any) -> None:
        self.peaks[name] = max(memory.rss, self.peaks.get(name, 0))
        self.own_peaks[name] = max(memory.rss - memory.shared, self.own_peaks.get(name, 0))


def _family(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def _cpu_s(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0
