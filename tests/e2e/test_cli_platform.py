"""A platform that is kept up by the command line: every process real, the model an exact oracle."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import av
import numpy as np
import pytest

from cli.embedded.directory import DataDirectory
from cli.embedded.ports import free_ports
from harness.programs.command_line import (
    COMMAND,
    ENV,
    PATIENT_COMMAND,
    Up,
    ended,
    longhand,
    running_on,
    transcribe,
    write_words,
)
from harness.programs.workers import wait_until
from harness.repository.tree import ROOT
from harness.servers import patient
from worker.media.container import SUPPORTED

MAX_UPLOAD_BYTES = 20_000_000
SERVICES = [
    *("postgres", "valkey", "rclone", "api"),
    *("worker-cpu", "worker-oracle", "worker-deliver", "beat", "flower"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("platform") / "data"


@pytest.fixture(scope="module")
def started(data: Path) -> Iterator[list[Up]]:
    """The platforms of this file, one after another."""
    platforms: list[Up] = []
    yield platforms
    for platform in platforms:
        if platform.process.poll() is None:
            platform.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def flower_port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def up(started: list[Up], data: Path, flower_port: int) -> Up:
    """The platform that is up; a new one after a test that has ended the last."""
    if not started or started[-1].process.poll() is not None:
        options = ("--flower", "--flower-port", str(flower_port))
        started.append(Up(data, *options, LONGHAND_MAX_UPLOAD_BYTES=str(MAX_UPLOAD_BYTES)))
    return started[-1]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Three words; a file like no other, so that no earlier test's transcript is shared."""
    path = write_words(tmp_path / "clip.wav", [1, 2, 3])
    path.write_bytes(path.read_bytes() + b"LIST" + (16).to_bytes(4, "little") + os.urandom(16))
    return path


def test_up_names_its_services_and_refuses_a_second_up(data: Path, up: Up) -> None:
    assert [line.split()[0] for line in up.lines] == [*SERVICES, "Flower", "ready"]

    second = longhand("up", "--port", "0", "--model", "oracle", "--data", data)

    assert second.returncode == 1
    assert "already runs in" in second.stderr


def test_transcribe_uses_the_platform_that_is_up(
    data: Path, up: Up, clip: Path, tmp_path: Path
) -> None:
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
    newest = patient.get(f"{up.url}/jobs").json()["jobs"][0]
    assert (newest["multichannel"], newest["language"]) == (True, "en")
    manifest = patient.get(f"{up.url}/jobs/{newest['id']}/manifest").json()
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


def test_bad_file_among_several_fails_alone(data: Path, up: Up, clip: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise.mp3"
    noise.write_bytes(bytes(range(256)) * 64)
    other = write_words(tmp_path / "other.wav", [9])
    done = transcribe(data, clip, noise, tmp_path / "gone.wav", other)
    assert done.returncode == 1
    assert done.stdout == f"==> {clip} <==\nw00001 w00002 w00003\n==> {other} <==\nw00009\n"
    errors = [line for line in done.stderr.splitlines() if line.startswith("longhand: error")]
    assert len(errors) == 2
    assert "Traceback" not in done.stderr


def test_each_file_that_is_no_whole_audio_fails_in_one_line_of_its_own(
    data: Path, up: Up, tmp_path: Path
) -> None:
    words = write_words(tmp_path / "words.wav", [1, 2, 3]).read_bytes()
    wav = (ROOT / "samples" / "hello.wav").read_bytes()
    flac = (ROOT / "samples" / "weather.flac").read_bytes()
    video = silent_video(tmp_path / "whole.mp4").read_bytes()
    unsupported = f"The file is not audio or video in a supported format: {SUPPORTED}."
    incomplete = "The file is incomplete: it ends before its own header says it does."
    bad = {
        "text.txt": (b"Hello.\n" * 100, unsupported),
        "image.png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(64), unsupported),
        "header.wav": (words[:20], unsupported),
        "cut.wav": (wav[: len(wav) // 3], incomplete),
        "cut.flac": (flac[: len(flac) // 3], incomplete),
        "cut.mp4": (video[: len(video) // 3], incomplete),
        "silent.mp4": (video, "The file has no audio track."),
        "samples.wav": (words[:40] + bytes(4), "The file holds no audio that can be decoded."),
        "large.wav": (
            bytes(MAX_UPLOAD_BYTES + 1),
            "the file is larger than 19.1 MiB (LONGHAND_MAX_UPLOAD_BYTES, or your own limit)",
        ),
    }
    for name, (content, _) in bad.items():
        (tmp_path / name).write_bytes(content)
    good = tmp_path / "with a blank, \u00e9 and \u65e5\u672c.wav"
    good.write_bytes(words)
    files = [*(tmp_path / name for name in bad), good]
    done = transcribe(data, *files)
    assert done.returncode == 1
    assert done.stdout == f"==> {good} <==\nw00001 w00002 w00003\n"
    errors = [line for line in done.stderr.splitlines() if line.startswith("longhand: error: ")]
    expected = [f"longhand: error: {tmp_path / n}: {why}" for n, (_, why) in bad.items()]
    assert errors == expected
    assert "Traceback" not in done.stderr


def silent_video(path: Path) -> Path:
    """Two seconds of grey pictures, without a soundtrack."""
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        for _ in range(20):
            picture = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


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


def test_flower_has_a_fixed_port_and_says_where_its_password_is(
    data: Path, up: Up, flower_port: int
) -> None:
    secret = json.loads((data / "credentials.json").read_text())["flower_password"]
    (hint,) = [line for line in up.lines if line.startswith("Flower lets in")]
    assert hint.endswith(f"longhand with the password in {data}/credentials.json (flower_password)")
    assert_flower_is_behind_its_login(up.lines, flower_port, secret)


def assert_flower_is_behind_its_login(lines: list[str], port: int, secret: str) -> None:
    (address,) = [line.split()[1] for line in lines if line.startswith("flower ")]
    assert address == f"http://127.0.0.1:{port}"
    assert not [line for line in lines if secret in line]
    assert patient.get(f"{address}/broker").status_code == 401
    assert patient.get(f"{address}/broker", auth=("longhand", secret)).status_code == 200


def test_a_directory_of_an_earlier_version_gets_the_secret_that_it_lacks(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    first = directory.credentials()
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({k: v for k, v in asdict(first).items() if k != "flower_password"}))
    second = directory.credentials()
    assert replace(second, flower_password="") == replace(first, flower_password="")
    assert second.flower_password
    assert directory.credentials() == second


def test_secrets_are_on_no_command_line_in_no_log_and_not_printed(data: Path, up: Up) -> None:
    secrets = json.loads((data / "credentials.json").read_text()).values()
    commands = "\n".join(running_on(data))
    assert "rclone" in commands
    logs = "\n".join(path.read_text(errors="replace") for path in (data / "logs").iterdir())
    assert "uvicorn" in logs
    told = "\n".join([commands, logs, up.stderr, *up.lines])
    assert not [secret for secret in secrets if secret in told]
    assert (data / "credentials.json").stat().st_mode & 0o077 == 0


def test_ctrl_c_cancels_the_jobs_that_nobody_waits_for(data: Path, up: Up, tmp_path: Path) -> None:
    os.kill(up.pids()["worker-oracle"], signal.SIGSTOP)  # it never gets to the end
    long = write_words(tmp_path / "long.wav", list(range(600)))
    command = [*PATIENT_COMMAND, "transcribe", str(long), "--server", up.url]
    with subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        while ": transcribing" not in running.stderr.readline():
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
    os.kill(up.pids()["worker-oracle"], signal.SIGCONT)
    assert patient.get(f"{up.url}/jobs").json()["jobs"][0]["state"] == "canceled"


def test_jobs_are_taken_while_redis_is_away_and_done_once_it_is_back(
    data: Path, up: Up, clip: Path
) -> None:
    def submit() -> str:
        answer = patient.post(
            f"{up.url}/jobs", data={"cache": "false"}, files={"file": clip.open("rb")}
        )
        assert answer.status_code == 202
        return str(answer.json()["id"])

    valkey = up.pids()["valkey"]
    os.kill(valkey, signal.SIGSTOP)
    frozen = submit()
    assert patient.get(f"{up.url}/jobs/{frozen}").json()["state"] == "queued"
    os.kill(valkey, signal.SIGCONT)
    assert wait_until(lambda: ended(up.url, frozen))["state"] == "succeeded"

    os.kill(valkey, signal.SIGKILL)
    dead = submit()
    assert wait_until(lambda: ended(up.url, dead))["state"] == "succeeded"
    assert up.pids()["valkey"] != valkey


def test_dead_service_is_restarted_at_the_same_address(data: Path, up: Up, clip: Path) -> None:
    pids = up.pids()
    for name in ("api", "postgres", "worker-cpu"):
        os.kill(pids[name], signal.SIGKILL)
    done = transcribe(data, clip, "--server", up.url)
    while done.returncode != 0 and "cannot reach" in done.stderr:
        done = transcribe(data, clip, "--server", up.url)
    assert done.stdout == "w00001 w00002 w00003\n", done.stderr
    for name in ("api", "postgres", "worker-cpu"):
        assert f"{name} died (SIGKILL); restarting in 0.5 s" in up.stderr


def test_a_worker_that_is_told_to_stop_stops_alone(data: Path, up: Up, clip: Path) -> None:
    told = up.pids()["worker-deliver"]
    os.kill(told, signal.SIGTERM)
    wait_until(lambda: up.pids().get("worker-deliver", told) != told)
    assert transcribe(data, clip).stdout == "w00001 w00002 w00003\n"


def test_a_second_platform_runs_beside_the_first_and_ends_with_its_terminal(
    data: Path, up: Up, clip: Path, tmp_path: Path
) -> None:
    """The second one has a Flower with a password of one's own."""
    other, secret, port = tmp_path / "data", "of/my own@choice", free_ports(1)[0]
    arguments = [*COMMAND, "up", "--port", "0", "--model", "oracle", "--data", str(other)]
    arguments += ["--flower", "--flower-port", str(port)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, arguments, ENV | {"LONGHAND_FLOWER_PASSWORD": secret})
    output = b""
    while b"ready http" not in output:
        output += os.read(terminal, 4096)

    assert_flower_is_behind_its_login(output.decode().splitlines(), port, secret)
    for directory in (data, other):
        done = transcribe(directory, clip)
        assert (done.returncode, done.stdout.split()) == (0, ["w00001", "w00002", "w00003"])
    url = json.loads((other / "stack.json").read_text())["api_url"]
    assert url != up.url
    assert len(patient.get(f"{url}/jobs").json()["jobs"]) == 1

    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not running_on(other)
    assert transcribe(data, clip).returncode == 0


def test_up_ends_with_all_its_processes_when_it_is_interrupted(data: Path, up: Up) -> None:
    assert up.end(signal.SIGINT)[0] == 0
    wait_until(lambda: not running_on(data))
    assert not [path for path in data.rglob("*") if path.is_socket()]
    assert not (data / "stack.json").exists()
