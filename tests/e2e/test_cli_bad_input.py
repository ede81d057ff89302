"""Bad input to the command line: one line on stderr, a non-zero exit, no traceback."""

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.programs.command_line import COMMAND, ENV, longhand
from harness.repository.tree import ROOT


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
        if self.path != "/jobs":
            self.send_error(404)
            return
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


def test_folder_without_audio_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden.wav").write_text("x")
    done = longhand("transcribe", tmp_path, "--data", tmp_path / "data")
    assert the_one_line(done).endswith(f"{tmp_path}: has no audio or video files in it")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("empty.wav", "the file is empty"),
        ("pipe.wav", "is not a regular file"),
        ("loop.wav", "cannot be read: Too many levels of symbolic links"),
        ("n" * 300 + ".wav", "cannot be read: File name too long"),
        ("two\nlines\x1b[31m.wav", "no such file"),
        ("no-\udcff-text.wav", "no such file"),
    ],
)
def test_file_that_cannot_be_uploaded_is_refused_before_anything_starts(
    tmp_path: Path, name: str, problem: str
) -> None:
    (tmp_path / "empty.wav").touch()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    line = the_one_line(longhand("transcribe", tmp_path / name, "--data", tmp_path / "data"))
    assert line.endswith(problem)
    assert line.isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_unreadable_file_is_told(tmp_path: Path, clip: Path) -> None:
    clip.chmod(0)
    done = longhand("transcribe", clip, "--data", tmp_path / "data")
    assert the_one_line(done).endswith("cannot be read: Permission denied")


@pytest.mark.parametrize("option", ["--output", "--data"])
def test_empty_path_of_an_unset_variable_is_not_the_current_folder(clip: Path, option: str) -> None:
    assert "the path is empty" in the_one_line(longhand("transcribe", clip, option, ""), code=2)


def test_output_that_is_a_file_is_refused(tmp_path: Path, clip: Path) -> None:
    done = longhand("transcribe", clip, "--output", clip, "--data", tmp_path / "data")
    assert the_one_line(done).endswith(f"cannot write transcripts into {clip}: not a directory")


def test_output_whose_name_is_too_long_is_refused_before_anything_starts(tmp_path: Path) -> None:
    clip = tmp_path / ("n" * 251 + ".wav")
    clip.write_bytes(b"RIFF")
    done = longhand(
        *("transcribe", clip, "--format", "txt,json", "--output", tmp_path / "out"),
        *("--data", tmp_path / "data"),
    )
    written = tmp_path / "out" / ("n" * 251 + ".json")
    assert the_one_line(done).endswith(f"cannot write {written}: File name too long")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("language", ["de", "DE", "de-AT", "german"])
def test_language_that_the_model_lacks_is_refused_before_anything_starts(
    tmp_path: Path, clip: Path, language: str
) -> None:
    arguments = ("--model", "starter", "--language", language, "--data", tmp_path / "data")
    line = the_one_line(longhand("transcribe", clip, *arguments))
    assert line.endswith("model 'starter' does not know language 'de'; it knows en")


def test_unknown_model_is_named_with_those_there_are(tmp_path: Path, clip: Path) -> None:
    done = longhand("transcribe", clip, "--model", "nope", "--data", tmp_path / "data")
    line = the_one_line(done)
    assert "nope" in line
    assert "starter" in line


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            ("-f", "doc"),
            "there is no format 'doc'; there are txt, json, srt, vtt, tsv, docx, all; commas",
        ),
        (("--formt", "srt"), "No such option '--formt'"),
        (("-f", "txt,srt"), "several formats go into a folder: name it by --output"),
        (("-f", "all"), "several formats go into a folder: name it by --output"),
        (("-f", "srt", "-f", "vtt"), "several formats go into a folder: name it by --output"),
        (("--skip-existing",), "--skip-existing looks into a folder: name it by --output"),
        (("--language", "englsh"), "unknown language 'englsh'; did you mean 'english'?"),
        (("--metadata", "[1]"), "--metadata: expected a JSON object"),
        (("--metadata", "{"), "--metadata: expected a JSON object"),
        (("--reference", "gone.txt"), "gone.txt cannot be read: No such file or directory"),
        (("--reference", os.devnull), "'--reference': the reference has no words"),
        (("--jobs", "0"), "0 is not in the range"),
        (("--priority", "101"), "101 is not in the range -100<=x<=100"),
        (("--priority", "high"), "'high' is not a valid integer"),
        (("--max_line_width", "40"), "subtitles have sizes: choose srt or vtt by --format"),
        (("-f", "srt", "--max_line_width", "5"), "5 is not in the range"),
        (("-f", "srt", "--max_words_per_line", "0"), "0 is not in the range"),
        (("-f", "docx"), "docx is no text: name a folder for it by --output"),
        (("--hf_token", "x"), "--hf_token: --speakers tells speakers apart here"),
    ],
)
def test_wrong_usage_is_one_line_that_points_to_the_help(
    clip: Path, options: tuple[str, ...], problem: str
) -> None:
    line = the_one_line(longhand("transcribe", clip, *options), code=2)
    assert problem in line
    assert line.endswith(" (see 'longhand transcribe --help')")


def test_reference_of_several_files_is_refused(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "said.txt").write_text("words")
    done = longhand("transcribe", clip, ROOT / "models.toml", "--reference", tmp_path / "said.txt")
    assert "--reference goes with one file" in the_one_line(done)


def test_url_of_another_scheme_is_refused_with_what_to_do() -> None:
    line = the_one_line(longhand("transcribe", "ftp://example.com/a.mp3"))
    told = "only http and https URLs are fetched: download the file, then name it"
    assert line.endswith(f"ftp://example.com/a.mp3: {told}")


def test_terminal_as_standard_input_is_refused() -> None:
    controller, terminal = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "transcribe", "-"],
        env=ENV,
        stdin=terminal,
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(controller)
    os.close(terminal)
    assert "standard input: is a terminal" in the_one_line(done)


def test_help_is_grouped_and_leaves_other_commands_names_to_its_end() -> None:
    help_text = longhand("transcribe", "--help").stdout
    for group in ("What is written:", "How:", "Where and how many:"):
        assert f"\n{group}\n" in help_text
    assert len(help_text.splitlines()) <= 60
    assert max(map(len, help_text.splitlines())) <= 80
    options, _, end = help_text.partition("--metadata")
    assert not re.search(r"--\w+_", options)
    assert "--output_dir" in end
    assert "--beam_size" not in help_text


def test_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = longhand("up", "--port", str(port), "--model", "oracle", "--data", tmp_path / "d")
    assert f"cannot listen on 127.0.0.1:{port}" in the_one_line(done)


def test_a_taken_port_of_flower_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ("--port", "0", "--flower", "--flower-port", str(port), "--model", "oracle")
        done = longhand("up", *options, "--data", tmp_path / "d")
    assert f"cannot listen on 127.0.0.1:{port}" in the_one_line(done)
    assert "choose another with --flower-port" in done.stderr
    assert not (tmp_path / "d" / "postgres").exists()


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


def test_files_larger_than_the_disk_are_refused_before_anything_starts(tmp_path: Path) -> None:
    large = tmp_path / "large.wav"
    with large.open("wb") as file:
        file.truncate(shutil.disk_usage(tmp_path).free)  # a hole: it takes no space itself
    done = longhand("transcribe", large, "--model", "oracle", "--data", tmp_path / "data")
    assert "no space left" in the_one_line(done)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_output_that_finds_the_disk_full_is_one_line_and_a_failure() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "--help"],
            env=ENV,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "longhand: error: No space left on device\n"


def test_output_folder_that_cannot_be_made_is_one_line(clip: Path) -> None:
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


@pytest.mark.parametrize(
    "address", ["localhost:8000", "htp://host", "http://", "http://[x", "http://host:99999", ""]
)
def test_address_that_is_none_is_refused(clip: Path, address: str) -> None:
    done = longhand("transcribe", clip, "--server", address)
    assert f"'{address}' is not a server's address" in the_one_line(done)


def test_ctrl_c_does_not_wait_for_a_server_that_is_silent(clip: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        command = [*COMMAND, "transcribe", str(clip), "--server", url]
        with subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True) as waiting:
            connection, _ = silent.accept()
            with connection:
                connection.recv(1)
                waiting.send_signal(signal.SIGINT)
                _, stderr = waiting.communicate(timeout=25)  # a request may take 30 s
    assert waiting.returncode == 130
    assert "Traceback" not in stderr


def test_server_that_speaks_no_https_is_told(clip: Path, refuser: str) -> None:
    done = longhand("transcribe", clip, "--server", refuser.replace("http", "https"))
    assert done.stderr.splitlines()[-1].endswith("it does not speak https; try http")


def test_server_that_is_no_longhand_is_told(clip: Path, refuser: str) -> None:
    done = longhand("transcribe", clip, "--server", f"{refuser}/elsewhere")
    last = done.stderr.splitlines()[-1]
    assert last.endswith(f"{refuser}/elsewhere does not answer like a Longhand server")


def test_servers_problem_is_shown_as_one_line(clip: Path, refuser: str) -> None:
    done = longhand("transcribe", clip, "--server", refuser)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == f"longhand: error: {clip}: no model 'x'; there are y"
