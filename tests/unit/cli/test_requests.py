"""What ``longhand transcribe`` asks of a server: all it needs, and nothing twice."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import cli
from cli.progress.lines import Progress
from cli.server import connect
from cli.signals import Stopped
from cli.transcribe import batch as batching
from cli.transcribe import file_jobs
from cli.transcribe.batch import Batch
from cli.transcribe.file_jobs import MAX_LOOK_S, MIN_LOOK_S, FileJobs, look_s
from cli.transcribe.platform import Platform
from cli.transcribe.request import Request
from cli.transcribe.sources import find_sources
from cli.transcribe.transcript_files import TranscriptFiles
from cli.transcribe.work import Work
from shared.models.options import JobOptions

WARNING = {"code": "clipped_audio", "detail": "Too loud."}


class Server(ThreadingHTTPServer):
    """A platform with one job, which ends when it is told to; keeps what is asked of it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests: list[str] = []
        self.bodies: list[bytes] = []
        """Of requests whose bodies are JSON."""
        self.ends = True


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.requests.append(f"POST {self.path}")
        if self.headers["Content-Type"] == "application/json":
            self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        elif self.path == "/jobs":
            self._skip_form()
        self._answer(202, json.dumps({"id": "one", "state": "queued"}))

    def _skip_form(self) -> None:
        while self.rfile.read1(65536).find(b"--\r\n") < 0:
            pass

    def do_GET(self) -> None:
        self.server.requests.append(f"GET {self.path}")
        if "/transcript" in self.path:
            self._answer(200, "words\n")
        elif self.server.ends:
            transcript = {"warnings": [WARNING]}
            self._answer(
                200, json.dumps({"id": "one", "state": "succeeded", "transcript": transcript})
            )
        else:
            self._answer(200, json.dumps({"id": "one", "state": "running"}))

    def _answer(self, code: int, body: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def wait(until: Callable[[], bool]) -> None:
    while not until():
        time.sleep(0.001)


def transcribe(
    server: Server,
    tmp_path: Path,
    *formats: str,
    run: Callable[[Callable[[], bool]], None] = wait,
    output: bool = False,
    names: Sequence[str] = ("a.wav",),
    urls: Sequence[str] = (),
    options: JobOptions | None = None,
    kind: type[FileJobs] = FileJobs,
    progress: Progress | None = None,
    content: bytes | None = b"x",
) -> bool:
    """Transcribe files; return whether all succeeded."""
    clips = tuple(tmp_path / name for name in names)
    for clip in clips:
        if content is not None:
            clip.write_bytes(content)
    asked = (*clips, *urls)
    sources = find_sources(asked).sources
    stop = threading.Event()
    jobs = kind(
        Request(files=asked, options=options or JobOptions(), formats=formats),
        Platform(server.url, None, run),
        progress or Progress(),
        stop,
        connect(server.url, stop),
    )
    with Batch(jobs) as batch:
        batch.add(sources, TranscriptFiles(tmp_path / "out", formats, sources) if output else None)
        jobs.platform.run(batch.look)
        return batch.summarize()


def test_a_transcript_is_fetched_once(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe(server, tmp_path, "txt")
    assert server.requests == [
        "POST /jobs",
        "GET /jobs/one?wait=1&text=false",
        "GET /jobs/one/transcript?format=txt",
    ]
    out, err = capsys.readouterr()
    assert out == "words\n"
    assert "longhand: warning: " in err
    assert "Too loud. (clipped_audio)" in err


def test_a_url_is_sent_as_it_was_named_with_the_options_beside_it(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "https://example.com/rec//talk.mp3?sig=hush"
    options = JobOptions(language="de", multichannel=True)
    assert transcribe(server, tmp_path, "txt", names=(), urls=[url], options=options)
    assert server.requests[0] == "POST /jobs"
    assert [json.loads(body) for body in server.bodies] == [
        {"audio_url": url, "language": "de", "multichannel": True}
    ]
    out, err = capsys.readouterr()
    assert out == "words\n"
    assert "hush" not in err


def test_each_format_of_an_interrupted_job_is_fetched_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in (
        (file_jobs, "LAST_WORDS_S"),
        (file_jobs, "CANCEL_S"),
        (batching, "ABANDON_S"),
    ):
        monkeypatch.setattr(module, name, 60.0)  # the machine may stand still
    server.ends = False

    def interrupted(until: Callable[[], bool]) -> None:
        wait(lambda: any("wait=" in request for request in server.requests))
        raise Stopped(2)

    with pytest.raises(Stopped):
        transcribe(server, tmp_path, "srt", "txt", run=interrupted, output=True)
    partial = "/jobs/one/transcript?format={}&partial=true"
    asked = [request for request in server.requests if "partial" in request]
    assert asked == [f"GET {partial.format(form)}" for form in ("srt", "txt")]
    assert (tmp_path / "out" / "a.txt.partial").read_text() == "words\n"
    assert server.requests[-1] == "POST /jobs/one/cancel"


@pytest.fixture
def growing(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    path.write_bytes(b"a" * 1_000_000)
    return path


def test_a_file_that_is_cut_off_during_its_upload_fails_with_a_sentence(
    server: Server, tmp_path: Path, growing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Cutting(Progress):
        shown = 0

        def show(self, name: str, phase: str, *details: object) -> None:
            self.shown += 1
            if self.shown == 2:  # the first is before the file is opened
                os.truncate(growing, 400_000)

    assert not transcribe(server, tmp_path, "txt", progress=Cutting(), content=None)
    assert "the file was cut off while it was being uploaded" in capsys.readouterr().err


def test_an_unexpected_error_of_a_file_is_a_line_and_the_others_are_printed(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Faulty(FileJobs):
        def transcribe(self, work: Work) -> None:
            if work.source.path.name == "a.wav":
                raise RuntimeError("nobody\nforesaw this")
            super().transcribe(work)

    done = transcribe(server, tmp_path, "txt", names=("a.wav", "b.wav"), kind=Faulty)

    out, err = capsys.readouterr()
    assert not done
    assert out == f"==> {tmp_path / 'b.wav'} <==\nwords\n"
    errors = [line for line in err.splitlines() if line.startswith("longhand: error: ")]
    problem = "unexpected error: RuntimeError: nobody foresaw this"
    assert errors == [f"longhand: error: {tmp_path / 'a.wav'}: {problem}"]
    assert "Traceback" not in err


def test_a_file_that_grows_is_warned_of_and_transcribed(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Appending(Progress):
        def show(self, name: str, phase: str, *details: object) -> None:
            with (tmp_path / "a.wav").open("ab") as file:
                file.write(b"y")

    assert transcribe(server, tmp_path, "txt", progress=Appending())

    out, err = capsys.readouterr()
    assert out == "words\n"
    (warned,) = [line for line in err.splitlines() if "appended" in line]
    assert warned.startswith(f"longhand: warning: {tmp_path / 'a.wav'}: something was appended")


def test_a_file_that_is_moved_away_after_its_upload_has_its_transcript(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Moving(Progress):
        def show(self, name: str, phase: str, *details: object) -> None:
            if details[:1] == (1.0,):
                (tmp_path / "a.wav").unlink()

    assert transcribe(server, tmp_path, "txt", progress=Moving())
    assert capsys.readouterr().out == "words\n"


def test_the_longer_a_job_takes_the_less_often_it_is_asked_about() -> None:
    assert look_s(0) == look_s(60) == MIN_LOOK_S
    assert MIN_LOOK_S < look_s(120) < look_s(240) < MAX_LOOK_S
    assert look_s(3600) == MAX_LOOK_S


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ([], {}),
        (["--priority", "0"], {}),
        (["--priority", "7"], {"priority": 7}),
        (["--priority", "-100"], {"priority": -100}),
        (["--wait-for-worker"], {"wait_for_worker": True}),
        (["--multilingual"], {"multilingual": True}),
        (["--multilingual", "True", "--highlight_words", "False"], {"multilingual": True}),
        (["--multilingual", "False"], {}),
    ],
)
def test_options_reach_the_server_unless_they_have_their_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], sent: dict[str, Any]
) -> None:
    asked: list[dict[str, Any]] = []

    def run(request: Request, _server: str | None, _data: Path) -> int:
        asked.append(request.members(request.options.model))
        return 0

    monkeypatch.setattr("cli.transcribe.run.transcribe", run)
    command = ["transcribe", "a.wav", "--data", str(tmp_path), *arguments]
    assert CliRunner().invoke(cli, command, obj=True).exit_code == 0
    assert asked == [sent]
