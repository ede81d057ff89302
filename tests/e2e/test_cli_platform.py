"""The whole platform through its command line: every process real, the model an exact oracle."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from worker.engines.oracle import encode

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-P", "-m", "cli.main")
ENV = dict(os.environ, PYTHONPATH=str(ROOT))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data directory for all tests of this file: they come upon each other's leftovers."""
    path = tmp_path_factory.mktemp("platform") / "data"
    (path.parent / "home").mkdir()
    return path


@pytest.fixture(autouse=True)
def nothing_is_left(data: Path) -> Iterator[None]:
    """No test may leave a process that works on the data directory."""
    yield
    wait_for(lambda: not running_on(data), 20)
    assert not [path for path in data.rglob("*") if path.is_socket()]


def wait_for(condition: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.05)


def running_on(data: Path) -> list[str]:
    """Commands of living processes that name the directory in their arguments or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            words = [*process.cmdline(), process.cwd(), *process.environ().values()]
            if any(str(data) in word for word in words):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def write_words(path: Path, numbers: list[int]) -> Path:
    samples, _ = encode(numbers)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        file.writeframes((samples * 32767).astype(np.int16).tobytes())
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_words(tmp_path / "clip.wav", [1, 2, 3])


def transcribe(data: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "transcribe", *map(str, arguments), "--data", str(data)],
        env=ENV,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class Up:
    """A ``longhand up`` that has become ready."""

    def __init__(self, data: Path) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "up", "--port", "0", "--model", "oracle", "--data", str(data)],
            env=ENV,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if line.startswith("ready "):
                return
        raise AssertionError(self.process.stderr and self.process.stderr.read())

    @property
    def url(self) -> str:
        return self.lines[-1].removeprefix("ready ")

    def end(self, signum: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(signum)
        _, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stderr


@pytest.fixture
def up(data: Path) -> Iterator[Up]:
    running = Up(data)
    yield running
    if running.process.poll() is None:
        running.end(signal.SIGTERM)


def test_one_command_transcribes_and_leaves_nothing_running(data: Path, clip: Path) -> None:
    done = transcribe(data, clip, "--model", "oracle")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "w00001 w00002 w00003\n"
    assert f"{clip}: uploading" in done.stderr
    assert not running_on(data)
    assert not (data / "stack.json").exists()


def test_bad_file_among_several_fails_alone(data: Path, clip: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise.mp3"
    noise.write_bytes(bytes(range(256)) * 64)
    other = write_words(tmp_path / "other.wav", [9])
    done = transcribe(data, clip, noise, tmp_path / "gone.wav", other, "--model", "oracle")
    assert done.returncode == 1
    assert done.stdout == f"==> {clip} <==\nw00001 w00002 w00003\n==> {other} <==\nw00009\n"
    errors = [line for line in done.stderr.splitlines() if line.startswith("longhand: error")]
    assert len(errors) == 2
    assert "Traceback" not in done.stderr


def test_up_serves_transcribe_and_refuses_a_second_up(
    data: Path, up: Up, clip: Path, tmp_path: Path
) -> None:
    names = [line.split()[0] for line in up.lines]
    expected = ["postgres", "valkey", "rclone", "api", "worker-cpu", "worker-oracle", "beat"]
    assert names == [*expected, "ready"]

    second = subprocess.run(
        [*COMMAND, "up", "--port", "0", "--model", "oracle", "--data", str(data)],
        env=ENV,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert "already runs in" in second.stderr

    done = transcribe(data, clip, "--format", "json", "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert up.url in done.stderr
    transcript = json.loads((tmp_path / "out" / "clip.json").read_text())
    assert transcript["text"] == "w00001 w00002 w00003"

    refused = transcribe(data, clip, "--model", "starter")
    assert refused.returncode == 1
    assert "does not run 'starter'; it runs: oracle" in refused.stderr

    assert up.end(signal.SIGINT)[0] == 0


def test_secrets_are_on_no_command_line(data: Path, up: Up) -> None:
    secrets = json.loads((data / "credentials.json").read_text()).values()
    commands = "\n".join(running_on(data))
    assert "rclone" in commands
    assert not [secret for secret in secrets if secret in commands]
    assert (data / "credentials.json").stat().st_mode & 0o077 == 0


def test_dead_service_is_restarted_at_the_same_address(data: Path, up: Up, clip: Path) -> None:
    record = json.loads((data / "stack.json").read_text())
    pids = {child["name"]: child["pid"] for child in record["children"]}
    for name in ("api", "postgres", "worker-cpu"):
        os.kill(pids[name], signal.SIGKILL)
    done = transcribe(data, clip, "--server", up.url)
    while done.returncode != 0 and "cannot reach" in done.stderr:
        done = transcribe(data, clip, "--server", up.url)
    assert done.stdout == "w00001 w00002 w00003\n", done.stderr
    _, stderr = up.end(signal.SIGTERM)
    for name in ("api", "postgres", "worker-cpu"):
        assert f"{name} died (SIGKILL); restarting in 0.5 s" in stderr


def test_killed_up_leaves_no_process_and_its_directory_recovers(data: Path, clip: Path) -> None:
    killed = Up(data)
    killed.process.kill()
    killed.process.communicate()
    done = transcribe(data, clip, "--model", "oracle")  # at once: the old Postgres may still stop
    assert done.stdout == "w00001 w00002 w00003\n", done.stderr


def test_closed_terminal_stops_everything(data: Path, clip: Path) -> None:
    arguments = [*COMMAND, "up", "--port", "0", "--model", "oracle", "--data", str(data)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, arguments, ENV)
    output = b""
    while b"ready http" not in output:
        output += os.read(terminal, 4096)
    assert running_on(data)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not running_on(data)


def test_platform_runs_from_a_path_with_blanks(tmp_path: Path, clip: Path) -> None:
    data = tmp_path / "my data"
    done = transcribe(data, clip, "--model", "oracle")
    assert done.stdout == "w00001 w00002 w00003\n", done.stderr
    shutil.rmtree(data)
