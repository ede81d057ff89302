"""The supervisor with small stand-in programs: starting, restarting, stopping, cleaning up."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from cli.embedded.child import RUN_MODULE, Child, Program
from cli.embedded.directory import ChildRecord, DataDirectory, DirectoryInUse, StackRecord
from cli.embedded.fork_server import ForkServer
from cli.embedded.leftovers import end_leftovers
from cli.embedded.ports import answers_http
from cli.embedded.supervisor import Supervisor
from cli.errors import CommandError
from cli.signals import StopFlag, Stopped
from harness.repository.tree import ROOT

ENV = {"PATH": os.environ["PATH"]}
SLEEPER = ("sh", "-c", "sleep 600 & wait")
"""A process with a child of its own."""


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


def wait_for(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.01)


def group(pid: int) -> list[int]:
    """The living members of a process group."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return members


def test_second_supervisor_is_refused_and_told_where(directory: DataDirectory) -> None:
    other = DataDirectory(directory.path)
    with directory.lock():
        assert other.owner() is not None
        with pytest.raises(DirectoryInUse, match=str(directory.path)), other.lock():
            pass
    assert other.owner() is None


def test_dead_child_is_restarted_with_growing_delay(
    directory: DataDirectory, supervisor: Supervisor, said: list[str], tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    script = f"import time; print(time.monotonic(), file=open({str(starts)!r}, 'a')); exit(7)"
    supervisor.launch([Program("mayfly", (sys.executable, "-c", script), ENV)])
    supervisor.run(until=lambda: len(said) == 3)
    first, second, third = (float(line) for line in starts.read_text().split())
    assert second - first >= 0.5
    assert third - second >= 1.0
    assert said[0] == "mayfly died (exit code 7); restarting in 0.5 s"


def test_child_that_cannot_start_is_reported_with_its_last_words(supervisor: Supervisor) -> None:
    script = "import sys; sys.exit('fatal: the moon is down')"
    program = Program("lunatic", (sys.executable, "-c", script), ENV, is_ready=lambda: False)
    supervisor.launch([program])
    with pytest.raises(CommandError, match="lunatic does not start: fatal: the moon is down"):
        supervisor.await_ready(["lunatic"], limit_s=60)


def test_missing_program_is_one_sentence(supervisor: Supervisor) -> None:
    with pytest.raises(CommandError, match="ghost cannot start"):
        supervisor.launch([Program("ghost", ("/nonexistent/ghost",), ENV)])


def pid_of(directory: DataDirectory, name: str) -> int | None:
    record = directory.read_record()
    assert record is not None
    return next((child.pid for child in record.children if child.name == name), None)


def sockets(pid: int) -> list[str]:
    """The sockets that a process has open."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(str(link.readlink()))
    return [file for file in found if file.startswith("socket:")]


def pages(name: str, folder: Path) -> Program:
    """A service that stands in for ours: it serves a folder, on a port that the system gives it."""

    def answers() -> bool:
        ports = re.findall(r"port (\d+)", (folder / f"{name}.log").read_text())
        return bool(ports) and answers_http(int(ports[-1]))

    return Program(
        name,
        (*RUN_MODULE, "http.server", "--bind", "127.0.0.1", "0"),
        {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        },
        cwd=folder,
        is_ready=answers,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no fork server")
def test_forked_services_are_the_supervisors_own_and_started_anew_when_they_die(
    directory: DataDirectory, supervisor: Supervisor, said: list[str]
) -> None:
    names = ["one", "two"]
    programs = [pages(name, directory.logs) for name in names]
    server = ForkServer(programs)
    supervisor.launch([server.program])
    serving = pid_of(directory, "fork-server")
    assert serving is not None
    os.kill(serving, signal.SIGKILL)  # it is started again, as everything is
    wait_for(lambda: psutil.Process(serving).status() == psutil.STATUS_ZOMBIE)
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
        # Where it listens, and for a moment still the connection on which it was found ready.
        wait_for(lambda pid=pid: len(sockets(pid)) == 1)

    first = pid_of(directory, "one")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    supervisor.run(until=lambda: pid_of(directory, "one") not in (first, None))
    assert said[-1] == "one died (SIGKILL); restarting in 0.5 s"
    supervisor.await_ready(names, limit_s=60)


def test_stop_ends_children_phase_by_phase(
    directory: DataDirectory, supervisor: Supervisor, tmp_path: Path
) -> None:
    order = tmp_path / "order"
    script = """
        import signal, sys, time
        def end(*_):
            time.sleep(0.2)
            print(sys.argv[2], file=open(sys.argv[1], 'a'))
            sys.exit()
        signal.signal(signal.SIGTERM, end)
        print('up', flush=True)
        signal.pause()
    """
    names = ["store", "worker", "face"]
    for name in names:
        log = directory.logs / f"{name}.log"
        command = (sys.executable, "-c", textwrap.dedent(script), str(order), name)
        ready = lambda log=log: log.exists() and "up" in log.read_text()  # noqa: E731
        supervisor.launch([Program(name, command, ENV, is_ready=ready, grace_s=60)])
    supervisor.await_ready(names, limit_s=60)
    supervisor.stop([["face"], ["worker"], ["store"]])
    assert order.read_text().split() == ["face", "worker", "store"]
    assert directory.read_record() is None


def test_stubborn_child_is_killed_after_its_grace_with_all_it_forked(
    directory: DataDirectory, supervisor: Supervisor
) -> None:
    script = "trap '' TERM; sleep 600 & echo up; wait; sleep 600"
    log = directory.logs / "mule.log"
    supervisor.launch(
        [
            Program(
                "mule",
                ("sh", "-c", script),
                ENV,
                is_ready=lambda: "up" in log.read_text(),
                grace_s=0.3,
            )
        ]
    )
    supervisor.await_ready(["mule"], limit_s=60)
    record = directory.read_record()
    assert record is not None
    pid = record.children[0].pid
    assert len(group(pid)) == 2
    supervisor.stop([["mule"]])
    wait_for(lambda: not group(pid))


def test_leftovers_are_ended_and_strangers_with_their_number_are_not(
    directory: DataDirectory,
) -> None:
    ours = subprocess.Popen(SLEEPER, start_new_session=True)
    stranger = subprocess.Popen(SLEEPER, start_new_session=True)
    try:
        wait_for(lambda: len(group(ours.pid)) == 2)
        created_at = psutil.Process(ours.pid).create_time()
        children = (
            ChildRecord("api", ours.pid, created_at),
            # The number was reused: the record's process had started an hour before.
            ChildRecord("beat", stranger.pid, created_at - 3600),
        )
        directory.write_record(StackRecord("up", 1, "http://127.0.0.1:1", children))
        with directory.lock():
            assert end_leftovers(directory) == 2
            assert end_leftovers(directory) == 0
        ours.wait()
        assert not group(ours.pid)
        assert stranger.poll() is None
    finally:
        for process in (ours, stranger):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def test_group_whose_leader_died_is_still_ended(directory: DataDirectory) -> None:
    leader = subprocess.Popen(["sh", "-c", "sleep 600 & exec sleep 600"], start_new_session=True)
    wait_for(lambda: len(group(leader.pid)) == 2)
    created_at = psutil.Process(leader.pid).create_time()
    leader.kill()
    leader.wait()
    record = StackRecord("up", 1, "", (ChildRecord("worker-cpu", leader.pid, created_at),))
    directory.write_record(record)
    assert end_leftovers(directory) == 1
    wait_for(lambda: not group(leader.pid))


SUPERVISE = """
    import os, sys
    from pathlib import Path
    from cli.embedded.child import Program
    from cli.embedded.directory import DataDirectory
    from cli.signals import StopFlag, Stopped
    from cli.embedded.leftovers import end_leftovers
    from cli.embedded.supervisor import Supervisor

    directory = DataDirectory(Path(sys.argv[1]))
    directory.create()
    flag = StopFlag()
    with flag.installed(), directory.lock():
        end_leftovers(directory)
        supervisor = Supervisor(directory, flag, print)
        try:
            supervisor.launch(
                Program(name, ("sleep", "600"), {"PATH": os.environ["PATH"]}) for name in "ab"
            )
            print("up", flush=True)
            supervisor.run()
        except Stopped as stopped:
            sys.exit(stopped.exit_code)
        finally:
            supervisor.stop([["a"], ["b"]])
"""


@pytest.fixture
def supervise(directory: DataDirectory) -> Iterator[subprocess.Popen[str]]:
    """Another process that supervises two sleepers in ``directory``."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SUPERVISE), str(directory.path)],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stop_signals_leave_no_process_and_no_record(
    signum: signal.Signals, directory: DataDirectory, supervise: subprocess.Popen[str]
) -> None:
    record = directory.read_record()
    assert record is not None
    assert len(record.children) == 2
    supervise.send_signal(signum)
    assert supervise.wait(60) == 128 + signum
    assert not any(group(child.pid) for child in record.children)
    assert directory.read_record() is None


@pytest.mark.skipif(sys.platform != "linux", reason="needs the parent-death signal")
def test_killed_supervisor_takes_its_children_along_and_frees_the_directory(
    directory: DataDirectory, supervise: subprocess.Popen[str]
) -> None:
    record = directory.read_record()
    assert record is not None
    supervise.kill()
    supervise.wait()
    wait_for(lambda: not any(group(child.pid) for child in record.children))
    with directory.lock():
        assert end_leftovers(directory) == 0
    assert directory.read_record() is None


def test_stop_flag_ends_a_wait_for_readiness(directory: DataDirectory) -> None:
    flag = StopFlag()
    supervisor = Supervisor(directory, flag, lambda _: None)
    try:
        supervisor.launch([Program("slow", ("sleep", "600"), ENV, is_ready=lambda: False)])
        with flag.installed():
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(Stopped):
                supervisor.await_ready(["slow"], limit_s=60)
    finally:
        supervisor.stop([])


def test_log_is_bounded_while_its_process_goes_on_writing(directory: DataDirectory) -> None:
    child = Child(
        Program("chatter", ("sh", "-c", "while echo hello; do :; done"), ENV),
        directory.logs / "c.log",
    )
    child.start()
    try:
        wait_for(lambda: child.log.stat().st_size > 100_000)
        child.rotate_log(100_000)
        kept = child.log.with_name("c.log.1")
        assert kept.stat().st_size >= 100_000
        before = child.log.stat().st_size
        wait_for(lambda: child.log.stat().st_size > before)
        assert child.log.read_bytes()[:1] == b"h", "no hole where the old text was"
    finally:
        child.kill_group()
