"""What the command line says of a job that failed half way."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.client import JobView
from cli.errors import CommandError
from cli.progress import Progress
from cli.transcribe import Request, _Target, _transcribe_file
from shared.options import JobOptions


class Platform:
    """A client of a platform on which every job has failed at once."""

    def __init__(self, chunks_done: int) -> None:
        self._job = {
            "id": "one",
            "state": "failed",
            "progress": {"chunks_done": chunks_done, "chunks_total": 9},
            "error": {"code": "engine_failed", "detail": "it broke down"},
        }

    def submit(
        self, path: Path, *, fields: dict[str, str], on_sent: Callable[[int], None]
    ) -> JobView:
        return JobView.parse(self._job)


class Silence(Progress):
    def __init__(self) -> None:
        pass

    def show(self, *_: Any) -> None:
        pass


def reason(tmp_path: Path, *, chunks_done: int, lasting: bool) -> str:
    clip = tmp_path / "a.wav"
    clip.write_bytes(b"x")
    request = Request(files=[clip], options=JobOptions(), form="txt", output=None)
    target = _Target("http://127.0.0.1:1", None, lambda _: None, lasting=lasting)
    platform: Any = Platform(chunks_done)
    with pytest.raises(CommandError) as failure:
        _transcribe_file(platform, clip, request, target, Silence(), threading.Event(), set())
    return str(failure.value)


def test_a_job_that_failed_half_way_on_a_platform_that_runs_on_says_how_it_is_taken_up(
    tmp_path: Path,
) -> None:
    told = reason(tmp_path, chunks_done=4, lasting=True)
    assert told.startswith("it broke down; 4 of its chunks")
    assert told.endswith("curl -X POST http://127.0.0.1:1/jobs/one/retry")


@pytest.mark.parametrize(("chunks_done", "lasting"), [(0, True), (4, False)])
def test_where_a_retry_gains_nothing_there_is_no_word_of_it(
    tmp_path: Path, chunks_done: int, lasting: bool
) -> None:
    assert reason(tmp_path, chunks_done=chunks_done, lasting=lasting) == "it broke down"
