"""Which files of a watched folder are due: whole ones, each of them once."""

import os
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner

from cli.errors import CommandError
from cli.main import cli
from cli.progress.lines import Progress
from cli.transcribe import watched_folder
from cli.transcribe.batch import Batch
from cli.transcribe.file_jobs import FileJobs
from cli.transcribe.platform import Platform
from cli.transcribe.request import Request
from cli.transcribe.watched_folder import Arrivals, Watch
from cli.transcribe.work import State, Work
from shared.models.options import JobOptions


def due(arrivals: Arrivals) -> list[str]:
    """Look, and take what is due."""
    _, sources = arrivals.look()
    for source in sources:
        arrivals.take(source)
    return [source.path.name for source in sources]


def test_a_file_is_due_once_it_does_not_grow_any_more(tmp_path: Path) -> None:
    arrivals, path = Arrivals(tmp_path), tmp_path / "a.wav"
    assert due(arrivals) == []
    path.touch()
    assert due(arrivals) == due(arrivals) == []  # it is empty
    path.write_bytes(b"x")
    assert due(arrivals) == []
    path.write_bytes(b"xx")
    assert due(arrivals) == []
    assert due(arrivals) == ["a.wav"]
    assert due(arrivals) == due(arrivals) == []


def test_a_file_that_changes_is_due_again_and_one_that_is_no_audio_is_never(tmp_path: Path) -> None:
    arrivals, path = Arrivals(tmp_path), tmp_path / "a.wav"
    path.write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    due(arrivals)
    assert due(arrivals) == ["a.wav"]
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000_000))
    assert due(arrivals) == []
    (source,) = arrivals.look()[1]
    assert arrivals.take(source)
    assert due(arrivals) == []


def test_a_file_that_was_not_there_before_is_told_from_one_that_was(tmp_path: Path) -> None:
    arrivals = Arrivals(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"x")
    arrivals.look()
    (source,) = arrivals.look()[1]
    assert not arrivals.take(source)
    assert arrivals.take(source)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "Missing argument 'FILE...'"),
        (("--watch-folder", "."), "--watch-folder: name a folder for transcripts by --output"),
        (("a.wav", "--watch-folder", ".", "-o", "out"), "--watch-folder takes the place of FILE"),
        (("--watch-folder", "gone", "-o", "out"), "--watch-folder: gone is not a folder"),
    ],
)
def test_what_a_watched_folder_needs_is_told(words: tuple[str, ...], problem: str) -> None:
    done = CliRunner().invoke(cli, ["transcribe", *words], obj=True)
    assert done.exit_code == 2
    assert problem in done.output


def test_a_folder_that_is_gone_ends_the_watching(tmp_path: Path) -> None:
    arrivals = Arrivals(tmp_path / "in")
    with pytest.raises(CommandError, match="the watched folder is gone"):
        arrivals.look()


def test_a_subfolder_that_vanishes_during_a_look_costs_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.wav").write_bytes(b"x")
    listed = [(str(tmp_path / "gone"), [], ["b.wav"]), (str(tmp_path), [], ["a.wav"])]
    monkeypatch.setattr("os.walk", lambda *_, **__: iter(listed))
    there, _ = Arrivals(tmp_path).look()
    assert [source.path.name for source in there] == ["a.wav"]


class Gated(FileJobs):
    """Does with each file what is asked for; ``slow.wav`` waits for its gate."""

    gate: ClassVar[threading.Event]

    def transcribe(self, work: Work) -> None:
        if work.source.path.name == "slow.wav":
            assert self.gate.wait(30)
        work.state = State.DONE
        assert work.outputs is not None
        work.outputs.write(work.source, "txt", b"words\n")


def test_a_file_that_comes_while_another_is_under_way_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watched_folder, "LOOK_S", 0.0)
    watched, output = tmp_path / "in", tmp_path / "out"
    watched.mkdir()
    client: Any = nullcontext()
    client.close = lambda: None
    request = Request(files=(), options=JobOptions(), output=output)
    platform = Platform("http://127.0.0.1:1", None, lambda done: None)
    Gated.gate = threading.Event()
    with Batch(Gated(request, platform, Progress(), threading.Event(), client)) as batch:
        watch = Watch(Arrivals(watched), request, batch)

        def look_until(path: Path) -> None:
            ends_s = time.monotonic() + 30
            while not path.exists():
                assert not watch.look()
                assert time.monotonic() < ends_s

        (watched / "slow.wav").write_bytes(b"x")
        watch.look()
        watch.look()  # it has not changed, and is begun
        (watched / "fast.wav").write_bytes(b"x")
        look_until(output / "fast.txt")
        assert not (output / "slow.txt").exists()
        Gated.gate.set()
        look_until(output / "slow.txt")
        while "2 of 2 files done" not in capsys.readouterr().err:
            watch.look()
