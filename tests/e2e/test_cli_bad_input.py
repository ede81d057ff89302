"""Bad input to the command line: one line on stderr, a non-zero exit, no traceback."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def longhand(*arguments: str | Path, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "cli.main", *map(str, arguments)],
        env=dict(os.environ, PYTHONPATH=str(ROOT)) | extra,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def the_one_line(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("longhand: error: ")
    return lines[0]


class Refuser(BaseHTTPRequestHandler):
    """A platform that accepts no job."""

    def do_POST(self) -> None:
        while self.rfile.read1(65536).find(b"--\r\n") < 0:
            pass
        body = json.dumps({"detail": "no model 'x';\nthere are y", "code": "unknown_model"})
        self.send_response(422)
        self.send_header("Content-Type", "application/problem+json")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def refuser() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuser)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    path.write_bytes(b"RIFF")
    return path


def test_missing_file_is_named(tmp_path: Path) -> None:
    done = longhand("transcribe", tmp_path / "gone.wav", "--data", tmp_path / "data")
    assert the_one_line(done).endswith("gone.wav: no such file")


def test_directory_is_no_audio_file(tmp_path: Path) -> None:
    done = longhand("transcribe", tmp_path, "--data", tmp_path / "data")
    assert "is a directory" in the_one_line(done)


def test_unknown_model_is_named_with_those_there_are(tmp_path: Path, clip: Path) -> None:
    done = longhand("transcribe", clip, "--model", "nope", "--data", tmp_path / "data")
    line = the_one_line(done)
    assert "nope" in line
    assert "starter" in line


def test_unknown_format_is_refused(clip: Path) -> None:
    assert "docx" in the_one_line(longhand("transcribe", clip, "--format", "docx"), code=2)


def test_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = longhand("up", "--port", str(port), "--model", "oracle", "--data", tmp_path / "d")
    assert f"cannot listen on 127.0.0.1:{port}" in the_one_line(done)


def test_data_path_that_is_a_file_is_refused(clip: Path) -> None:
    done = longhand("up", "--model", "oracle", "--port", "0", "--data", clip)
    assert "is not a directory" in the_one_line(done)


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounts a small tmpfs")
def test_full_disk_is_told_before_anything_starts(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "longhand-test", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        done = longhand("up", "--model", "oracle", "--port", "0", "--data", small)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert "no space left" in the_one_line(done)


def test_full_disk_while_writing_transcripts_is_one_line(tmp_path: Path, clip: Path) -> None:
    done = longhand("transcribe", clip, "--output", "/dev/full/x", "--server", "http://127.0.0.1:1")
    assert "/dev/full" in the_one_line(done)


def test_unreachable_server_is_named(clip: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        done = longhand("transcribe", clip, LONGHAND_SERVER=url)
    assert done.returncode == 1
    assert f"cannot reach {url}" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_server_address_without_scheme_is_refused(clip: Path) -> None:
    done = longhand("transcribe", clip, "--server", "localhost:8000")
    assert "is not a server's address" in the_one_line(done)


def test_servers_problem_is_shown_as_one_line(clip: Path, refuser: str) -> None:
    done = longhand("transcribe", clip, "--server", refuser)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == f"longhand: error: {clip}: no model 'x'; there are y"
