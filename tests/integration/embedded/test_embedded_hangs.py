"""A process that hangs is restarted; a process that only waits for it is left alone."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from cli.embedded.child import Program
from cli.embedded.directory import DataDirectory
from cli.embedded.ports import answer, free_ports
from cli.embedded.registry import Registry
from cli.embedded.supervisor import Supervisor
from cli.signals import StopFlag
from harness.programs.command_line import Up, transcribe, write_words
from harness.programs.processes import is_alive
from harness.programs.workers import wait_until
from harness.repository.tree import ROOT
from shared.infra.settings import Settings
from shared.store.workers import WorkerEntry, WorkerState, announce

IMPATIENT_COMMAND = ROOT / "tests/harness/programs/impatient_command.py"
FOUND_WITHIN_S = 240.0
"""12 s of silence, which for a worker begin when its lease has run out, and a restart."""
SOON = {"LONGHAND_HEARTBEAT_S": "2", "LONGHAND_LEASE_S": "8"}

ECHO = """
import socketserver, subprocess, sys
subprocess.Popen(["sleep", "600"], start_new_session=True)
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"!")
socketserver.TCPServer.allow_reuse_address = True
with socketserver.TCPServer(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    server.serve_forever()
"""
"""A server with a child that has left its process group, as Postgres' backends do."""


def freeze(pid: int) -> list[psutil.Process]:
    """Stop a process and all that it forked; return them."""
    process = psutil.Process(pid)
    process.suspend()  # first: it forks no further ones, and those that end stay zombies
    frozen = [process, *process.children(recursive=True)]
    for each in frozen[1:]:
        each.suspend()
    # A signal that comes before the process has really stopped would be handled first.
    still = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    wait_until(lambda: all(each.status() in still for each in frozen))
    return frozen


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def directory(tmp_path: Path) -> DataDirectory:
    made = DataDirectory(tmp_path / "data")
    made.create()
    return made


@pytest.fixture
def supervisor(directory: DataDirectory, said: list[str]) -> Iterator[Supervisor]:
    """A supervisor that looks every tenth of a second, so that looks are missed sooner."""
    made = Supervisor(directory, StopFlag(), said.append, look_every_s=0.1)
    yield made
    made.stop([])


def pid_of(directory: DataDirectory, name: str) -> int | None:
    record = directory.read_record()
    assert record is not None
    return next((child.pid for child in record.children if child.name == name), None)


def test_a_hung_child_is_killed_with_all_it_forked_and_started_anew(
    directory: DataDirectory, supervisor: Supervisor, said: list[str]
) -> None:
    port = free_ports(1)[0]

    def answers() -> bool:
        return answer(port, b"?", n_bytes=1, within_s=0.2) == b"!"

    def look(pid: int) -> bool | None:
        # Of the second process, which a busy machine may hold up, nothing is claimed.
        return answers() or (False if pid == first else None)

    command = (sys.executable, "-c", ECHO, str(port))
    env = {"PATH": os.environ["PATH"]}
    supervisor.launch([Program("echo", command, env, is_ready=answers, look=look)])
    supervisor.await_ready(["echo"], limit_s=60)
    first = pid_of(directory, "echo")
    assert first is not None
    frozen = freeze(first)
    assert len(frozen) == 2

    supervisor.run(until=lambda: pid_of(directory, "echo") not in (first, None) and answers())

    assert said == ["echo hangs: it gives no sign of life; restarting it"]
    wait_until(lambda: not [each for each in frozen if is_alive(each)])


def test_a_child_that_answers_is_left_alone(
    directory: DataDirectory, supervisor: Supervisor, said: list[str]
) -> None:
    looks: list[int] = []

    def look(pid: int) -> bool:
        looks.append(pid)
        return True

    supervisor.launch([Program("quiet", ("sleep", "600"), {"PATH": os.environ["PATH"]}, look=look)])
    supervisor.run(until=lambda: len(looks) > 20)
    assert said == []
    assert set(looks) == {pid_of(directory, "quiet")}


def test_a_hung_child_ends_with_its_supervisor(
    directory: DataDirectory, supervisor: Supervisor
) -> None:
    port = free_ports(1)[0]
    env = {"PATH": os.environ["PATH"]}
    program = Program(
        *("echo", (sys.executable, "-c", ECHO, str(port)), env),
        is_ready=lambda: answer(port, b"?", n_bytes=1, within_s=0.5) == b"!",
        grace_s=0.1,
    )
    supervisor.launch([program])
    supervisor.await_ready(["echo"], limit_s=60)
    pid = pid_of(directory, "echo")
    assert pid is not None
    frozen = freeze(pid)
    supervisor.stop([["echo"]])
    wait_until(lambda: not [each for each in frozen if is_alive(each)])


def entry(pid: int, state: WorkerState) -> WorkerEntry:
    return WorkerEntry(
        id=f"model-whisper-base@some-host-{pid}-1a2b3c4d",
        role="model",
        model="whisper-base",
        queues=("model.whisper-base",),
        slots=1,
        state=state,
        device="cpu",
        dtype=None,
        version="1",
        load_s=None,
        warm_up_s=None,
    )


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return Registry(settings.database_url.get_secret_value())


def test_a_worker_shows_life_by_its_heartbeat(database: Engine, registry: Registry) -> None:
    for pid, state in ((11, "ready"), (12, "loading"), (13, "ready")):
        announce(database, entry(pid, state))  # type: ignore[arg-type]
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE workers SET last_seen_at = clock_timestamp() - interval '31 seconds'
                WHERE id LIKE '%-13-%'
            """)
        )
    assert registry.look(11) is True
    assert registry.look(12) is None
    assert registry.look(13) is False
    assert registry.look(1) is False


def test_without_postgres_nobody_can_tell_of_a_worker(settings: Settings) -> None:
    url = f"postgresql+psycopg://longhand@127.0.0.1:{free_ports(1)[0]}/longhand"
    assert Registry(SecretStr(url).get_secret_value()).look(11) is None


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    data = tmp_path_factory.mktemp("hangs") / "data"
    running = Up(data, command=(sys.executable, "-P", str(IMPATIENT_COMMAND)), **SOON)
    yield running
    running.end(signal.SIGTERM)


def hears(tmp_path: Path, up: Up) -> str:
    """Return what the platform hears in a file of three words."""
    clip = write_words(tmp_path / "clip.wav", [1, 2, 3])
    done = transcribe(tmp_path / "none", clip, "--server", up.url)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "frozen",
    [
        {"api", "worker-cpu", "worker-oracle", "worker-deliver", "beat"},
        {"postgres", "valkey", "rclone"},
    ],
    ids=["services", "servers"],
)
def test_what_is_frozen_is_started_anew_and_nobody_who_waits_for_it(
    up: Up, tmp_path: Path, frozen: set[str]
) -> None:
    before, said_before = up.pids(), len(up.stderr)
    for name in frozen:
        freeze(before[name])

    def changed() -> set[str]:
        now = up.pids()
        return {name for name in before if now.get(name, before[name]) != before[name]}

    wait_until(lambda: changed() >= frozen, within_s=FOUND_WITHIN_S)
    assert hears(tmp_path, up) == "w00001 w00002 w00003\n"
    assert changed() == frozen
    told = [line for line in up.stderr[said_before:].splitlines() if "restarting" in line]
    expected = [
        f"longhand: {name} hangs: it gives no sign of life; restarting it" for name in frozen
    ]
    assert sorted(told) == sorted(expected)
