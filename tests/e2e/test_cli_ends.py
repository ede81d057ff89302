"""How platforms of the command line end, and what the next one in their directory does."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.programs.command_line import (
    COMMAND,
    ENV,
    OWN_CATALOGUE,
    Up,
    ended,
    longhand,
    running_on,
    write_words,
)
from harness.programs.workers import wait_until
from harness.servers import patient

SOON = {f"LONGHAND_{name}_S": "1" for name in ("HEARTBEAT", "SWEEP")} | {"LONGHAND_LEASE_S": "3"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data directory for all tests of this file: they come upon each other's leftovers."""
    return tmp_path_factory.mktemp("a path with blanks") / "my data"


@pytest.fixture(autouse=True)
def nothing_is_left(data: Path) -> Iterator[None]:
    """No test may leave a process that works on the data directory."""
    yield
    wait_until(lambda: not running_on(data))
    assert not [path for path in data.rglob("*") if path.is_socket()]


def test_one_command_transcribes_with_a_catalogue_of_ones_own_and_leaves_nothing_running(
    data: Path, tmp_path: Path
) -> None:
    clip = write_words(tmp_path / "clip.wav", [1, 2, 3])
    (tmp_path / "own.toml").write_text(OWN_CATALOGUE)
    hub = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "cache")}
    done = longhand(
        *("transcribe", clip, "--data", data),
        cwd=tmp_path,
        LONGHAND_CATALOGUE="own.toml",  # relative to where one stands
        **hub,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "w00001 w00002 w00003\n"
    assert f"{clip}: uploading" in done.stderr
    assert "NOTE: Using 'tones', which is not the best of the catalogue." in done.stderr
    assert "'small-whisper' is not usable: weights (1 MB) not downloaded" in done.stderr
    assert "LOW ACCURACY" not in done.stderr
    assert not running_on(data)
    assert not (data / "stack.json").exists()


@pytest.mark.parametrize("line", ["starting the platform", ": transcribing"])
def test_ctrl_c_stops_everything_in_each_phase(data: Path, tmp_path: Path, line: str) -> None:
    """The model is the operator's default."""
    long = write_words(tmp_path / "long.wav", list(range(8000)))
    command = [*COMMAND, "transcribe", str(long), "--data", str(data)]
    env = ENV | {"LONGHAND_DEFAULT_MODEL": "oracle"}
    said = ""
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        while line not in said:
            assert running.poll() is None, f"it never said '{line}'"
            said += running.stderr.readline()
        running.send_signal(signal.SIGINT)
        stdout, stderr = running.communicate(timeout=100)
    assert running.returncode == 130
    assert stdout == ""
    assert "NOTE" not in said
    assert "stopping" in stderr
    assert "Traceback" not in stderr
    assert not running_on(data)


def test_what_is_killed_leaves_no_process_and_the_next_goes_on_with_its_jobs(
    data: Path, tmp_path: Path
) -> None:
    numbers = list(range(600))
    long = write_words(tmp_path / "long.wav", numbers)
    first = Up(data, **SOON)
    os.kill(first.pids()["worker-oracle"], signal.SIGSTOP)  # it never gets to the end
    job = patient.post(f"{first.url}/jobs", files={"file": long.open("rb")}).json()["id"]
    wait_until(
        lambda: patient.get(f"{first.url}/jobs/{job}").json()["progress"]["chunks_total"] > 3
    )
    first.kill(*first.pids().values())

    second = Up(data, **SOON)
    done = wait_until(lambda: ended(second.url, job))
    assert done["state"] == "succeeded"
    assert done["transcript"]["text"].split() == [f"w{number:05}" for number in numbers]
    second.kill()

    # At once: the second one's Postgres may still be stopping.
    more = write_words(tmp_path / "more.wav", list(range(3000)))
    command = [*COMMAND, "transcribe", str(more), "--model", "oracle", "--data", str(data)]
    with subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True) as third:
        assert third.stderr is not None
        while ": transcribing" not in third.stderr.readline():
            assert third.poll() is None
        third.kill()
    wait_until(lambda: not running_on(data))
