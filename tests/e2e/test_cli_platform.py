"""The whole platform through its command line: every process real, the model an exact oracle."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from commandline import COMMAND, ENV, Up, running_on, transcribe, write_words
from processes import wait_until

from cli.embedded.directory import DataDirectory
from cli.embedded.ports import free_ports


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
    wait_until(lambda: not running_on(data), within_s=20)
    assert not [path for path in data.rglob("*") if path.is_socket()]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Three words; a file like no other, so that no earlier test's transcript is shared."""
    path = write_words(tmp_path / "clip.wav", [1, 2, 3])
    path.write_bytes(path.read_bytes() + b"LIST" + (16).to_bytes(4, "little") + os.urandom(16))
    return path


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
    expected = [
        "postgres",
        "valkey",
        "rclone",
        "api",
        "worker-cpu",
        "worker-oracle",
        "worker-deliver",
        "beat",
    ]
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

    again = transcribe(data, clip)
    assert again.stdout == "w00001 w00002 w00003\n"
    assert f"{clip}: done (cached)" in again.stderr
    anew = transcribe(data, clip, "--no-cache", "--multichannel", "--language", "en")
    assert anew.stdout == "Channel 0: w00001 w00002 w00003\n", anew.stderr
    assert "(cached)" not in anew.stderr
    newest = httpx.get(f"{up.url}/jobs").json()["jobs"][0]
    assert (newest["multichannel"], newest["language"]) == (True, "en")
    manifest = httpx.get(f"{up.url}/jobs/{newest['id']}/manifest").json()
    assert (manifest["model"], manifest["decode"]["language"]) == ("oracle", "en")
    assert [chunk["channel"] for chunk in manifest["chunks"]] == [0]
    impossible = transcribe(data, clip, "--translate")
    assert impossible.returncode == 1
    assert "none of the served models can translate; those are oracle" in impossible.stderr

    for where in ([], ["--server", up.url]):
        refused = transcribe(data, clip, "--model", "starter", *where)
        assert refused.returncode == 1
        last = refused.stderr.splitlines()[-1]
        assert last == (
            f"longhand: error: {clip}: no worker serves 'starter'; name one that is served "
            "(oracle), start a worker for 'starter', or set wait_for_worker to have the job wait "
            "until there is one"
        )

    assert up.end(signal.SIGINT)[0] == 0


@pytest.mark.parametrize("chosen", ["", "of/my own@choice"])
def test_flower_has_a_fixed_port_and_the_address_printed_lets_one_in(
    data: Path, chosen: str
) -> None:
    port = free_ports(1)[0]
    options = ("--flower", "--flower-port", str(port))
    running = Up(data, *options, LONGHAND_FLOWER_PASSWORD=chosen)
    try:
        (address,) = [line.split()[1] for line in running.lines if line.startswith("flower ")]
        assert address.endswith(f"@127.0.0.1:{port}")
        assert httpx.get(f"{address}/broker").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{port}/broker").status_code == 401
        secret = chosen or json.loads((data / "credentials.json").read_text())["flower_password"]
        assert httpx.get(f"http://127.0.0.1:{port}/", auth=("longhand", secret)).status_code == 200
    finally:
        assert running.end(signal.SIGTERM)[0] == 0


def test_a_directory_of_an_earlier_version_gets_the_secret_that_it_lacks(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    first = directory.credentials()
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({k: v for k, v in asdict(first).items() if k != "flower_password"}))
    second = directory.credentials()
    assert replace(second, flower_password="") == replace(first, flower_password="")
    assert second.flower_password
    assert directory.credentials() == second


def test_secrets_are_on_no_command_line(data: Path, up: Up) -> None:
    secrets = json.loads((data / "credentials.json").read_text()).values()
    commands = "\n".join(running_on(data))
    assert "rclone" in commands
    assert not [secret for secret in secrets if secret in commands]
    assert (data / "credentials.json").stat().st_mode & 0o077 == 0


def test_dead_service_is_restarted_at_the_same_address(data: Path, up: Up, clip: Path) -> None:
    pids = up.pids()
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


def test_each_format_is_written_and_a_broken_file_keeps_none_from_it(
    data: Path, up: Up, clip: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(clip.read_bytes()[:3000])
    other = write_words(tmp_path / "other.wav", [9])
    marks = {"json": '"text":"w00009"', "srt": "00:00:00,", "vtt": "WEBVTT", "tsv": "start\tend"}
    for form, mark in marks.items():
        output = tmp_path / form
        done = transcribe(data, clip, broken, other, "--format", form, "--output", output)
        assert done.returncode == 1
        assert done.stdout == ""
        errors = [line for line in done.stderr.splitlines() if line.startswith("longhand: error")]
        assert len(errors) == 1
        assert errors[0].startswith(f"longhand: error: {broken}: The file is incomplete")
        assert {path.name for path in output.iterdir()} == {f"clip.{form}", f"other.{form}"}
        written = (output / f"other.{form}").read_text()
        assert mark in written.replace(": ", ":")
        assert "w00009" in written


@pytest.mark.parametrize("line", ["starting the platform", ": transcribing"])
def test_ctrl_c_stops_everything_in_each_phase(data: Path, tmp_path: Path, line: str) -> None:
    long = write_words(tmp_path / "long.wav", list(range(8000)))
    command = [*COMMAND, "transcribe", str(long), "--model", "oracle", "--data", str(data)]
    with subprocess.Popen(
        command, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        while line not in running.stderr.readline():
            assert running.poll() is None, f"it never said '{line}'"
        running.send_signal(signal.SIGINT)
        stdout, stderr = running.communicate(timeout=30)
    assert running.returncode == 130
    assert stdout == ""
    assert "stopping" in stderr
    assert "Traceback" not in stderr
    assert not running_on(data)


def test_ctrl_c_cancels_the_jobs_that_nobody_waits_for(data: Path, up: Up, tmp_path: Path) -> None:
    os.kill(up.pids()["worker-oracle"], signal.SIGSTOP)  # it never gets to the end
    long = write_words(tmp_path / "long.wav", list(range(600)))
    command = [*COMMAND, "transcribe", str(long), "--server", up.url]
    with subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        while ": transcribing" not in running.stderr.readline():
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
    os.kill(up.pids()["worker-oracle"], signal.SIGCONT)
    assert httpx.get(f"{up.url}/jobs").json()["jobs"][0]["state"] == "canceled"


def test_killed_transcribe_leaves_no_process(data: Path, tmp_path: Path) -> None:
    long = write_words(tmp_path / "long.wav", list(range(3000)))
    command = [*COMMAND, "transcribe", str(long), "--model", "oracle", "--data", str(data)]
    with subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        while "uploading" not in running.stderr.readline():
            assert running.poll() is None
        running.kill()
    wait_until(lambda: not running_on(data), within_s=10)


def test_jobs_of_a_platform_killed_whole_are_finished_by_the_next(
    data: Path, tmp_path: Path
) -> None:
    numbers = list(range(600))
    long = write_words(tmp_path / "long.wav", numbers)
    soon = {f"LONGHAND_{name}_S": "1" for name in ("HEARTBEAT", "SWEEP", "REPUBLISH")}
    soon["LONGHAND_LEASE_S"] = "3"
    first = Up(data, **soon)
    os.kill(first.pids()["worker-oracle"], signal.SIGSTOP)  # it never gets to the end
    job = httpx.post(f"{first.url}/jobs", files={"file": long.open("rb")}).json()["id"]
    wait_until(lambda: httpx.get(f"{first.url}/jobs/{job}").json()["progress"]["chunks_total"] > 3)
    for pid in (first.process.pid, *first.pids().values()):
        os.kill(pid, signal.SIGKILL)
    first.process.communicate()

    second = Up(data, **soon)
    ended = wait_until(lambda: finished(second.url, job))
    second.end(signal.SIGTERM)
    assert ended["state"] == "succeeded"
    assert ended["transcript"]["text"].split() == [f"w{number:05}" for number in numbers]


def finished(url: str, job: str) -> dict[str, Any] | None:
    """The job, once it has ended."""
    body: dict[str, Any] = httpx.get(f"{url}/jobs/{job}").json()
    return body if body["state"] in ("succeeded", "failed", "canceled") else None


def test_jobs_are_taken_while_redis_is_away_and_done_once_it_is_back(
    data: Path, up: Up, clip: Path
) -> None:
    def submit() -> str:
        answer = httpx.post(
            f"{up.url}/jobs", data={"cache": "false"}, files={"file": clip.open("rb")}
        )
        assert answer.status_code == 202
        return str(answer.json()["id"])

    valkey = up.pids()["valkey"]
    os.kill(valkey, signal.SIGSTOP)
    frozen = submit()
    assert httpx.get(f"{up.url}/jobs/{frozen}").json()["state"] == "queued"
    os.kill(valkey, signal.SIGCONT)
    assert wait_until(lambda: finished(up.url, frozen))["state"] == "succeeded"

    os.kill(valkey, signal.SIGKILL)
    dead = submit()
    assert wait_until(lambda: finished(up.url, dead))["state"] == "succeeded"
    assert up.pids()["valkey"] != valkey


def test_two_platforms_run_side_by_side(data: Path, up: Up, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    other = Up(tmp_path / "data")
    try:
        assert other.url != up.url
        for directory in (data, tmp_path / "data"):
            done = transcribe(directory, clip)
            assert (done.returncode, done.stdout.split()) == (0, ["w00001", "w00002", "w00003"])
        assert len(httpx.get(f"{other.url}/jobs").json()["jobs"]) == 1
    finally:
        other.end(signal.SIGTERM)
