"""Services that are forked, in place of being executed, are like those that are executed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cli.embedded.child import RUN_MODULE, Program
from cli.embedded.directory import DataDirectory
from cli.embedded.fork_server import ForkServer
from cli.embedded.ports import answers_http, free_ports
from cli.embedded.supervisor import Supervisor
from cli.signals import StopFlag

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no fork server")

ROOT = Path(__file__).parents[2]
IMPORT = """
import importlib, json, os, sys, threading
from cli.embedded.fork_server import IMPORTED

fds = set(os.listdir("/proc/self/fd"))
for name in IMPORTED:
    importlib.import_module(name)
from shared.infra.settings import get_settings

print(json.dumps({
    "settings read": get_settings.cache_info().currsize,
    "threads": [thread.name for thread in threading.enumerate()],
    "opened": sorted(set(os.listdir("/proc/self/fd")) - fds),
}))
"""


@pytest.fixture
def directory(tmp_path: Path) -> DataDirectory:
    made = DataDirectory(tmp_path / "data")
    made.create()
    return made


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(directory: DataDirectory, said: list[str]) -> Iterator[Supervisor]:
    made = Supervisor(directory, StopFlag(), said.append)
    yield made
    made.stop([])


def pid_of(directory: DataDirectory, name: str) -> int | None:
    record = directory.read_record()
    assert record is not None
    return next((child.pid for child in record.children if child.name == name), None)


def pages(name: str, port: int, folder: Path) -> Program:
    """A service that stands in for ours: it serves a folder."""
    return Program(
        name,
        (*RUN_MODULE, "http.server", "--bind", "127.0.0.1", str(port)),
        {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        cwd=folder,
        is_ready=lambda: answers_http(port),
    )


def test_nothing_that_is_imported_ahead_reads_a_setting_or_holds_what_a_fork_would_share() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    assert json.loads(done.stdout) == {"settings read": 0, "threads": ["MainThread"], "opened": []}


def test_forked_services_are_the_supervisors_own_and_started_anew_when_they_die(
    directory: DataDirectory, supervisor: Supervisor, said: list[str]
) -> None:
    names = ["one", "two"]
    programs = [
        pages(name, port, directory.logs) for name, port in zip(names, free_ports(2), strict=True)
    ]
    server = ForkServer(programs)
    supervisor.launch([server.program])
    serving = pid_of(directory, "fork-server")
    assert serving is not None
    os.kill(serving, signal.SIGKILL)  # it is started again, as everything is
    supervisor.launch(programs, server)
    supervisor.await_ready(names, limit_s=60)

    assert pid_of(directory, "fork-server") is None
    for name in names:
        pid = pid_of(directory, name)
        assert pid is not None
        service = psutil.Process(pid)
        assert (service.ppid(), service.name()) == (os.getpid(), name)
        assert os.getsid(pid) == os.getpgid(pid) == pid
        assert service.cwd() == str(directory.logs)
        assert "Serving HTTP" in (directory.logs / f"{name}.log").read_text()
        files = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
        assert len([file for file in files if file.startswith("socket:")]) == 1  # where it listens

    first = pid_of(directory, "one")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    supervisor.run(until=lambda: pid_of(directory, "one") not in (first, None))
    assert said[-1] == "one died (SIGKILL); restarting in 0.5 s"
    supervisor.await_ready(names, limit_s=60)


def test_forked_services_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    supervise = f"""
import sys
from pathlib import Path
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}, {str(ROOT / "tests")!r}]
from test_fork_server import *

directory = DataDirectory(Path({str(tmp_path / "data")!r}))
directory.create()
supervisor = Supervisor(directory, StopFlag(), print)
programs = [pages("one", free_ports(1)[0], directory.logs)]
server = ForkServer(programs)
supervisor.launch([server.program])
supervisor.launch(programs, server)
print(pid_of(directory, "one"), flush=True)
supervisor.run()
"""
    with subprocess.Popen(
        [sys.executable, "-c", supervise], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        service = psutil.Process(int(running.stdout.readline()))
        running.kill()
    _, alive = psutil.wait_procs([service], timeout=10)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]
