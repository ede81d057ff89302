"""What the command line says of a job that failed or was canceled half way."""

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
    """A client of a platform on which every job has ended at once."""

    def __init__(self, state: str, chunks_done: int) -> None:
        error = {"code": "engine_failed", "detail": "it broke down"}
        self._job = {
            "id": "one",
            "state": state,
            "progress": {"stage": state, "chunks_done": chunks_done, "chunks_total": 9},
            "error": error if state == "failed" else None,
        }

    def submit(
        self, path: Path, *, fields: dict[str, str], on_sent: Callable[[int], None]
    ) -> JobView:
        return JobView.parse(self._job)


class Phases(Progress):
    def __init__(self) -> None:
        self.shown: list[str] = []

    def show(self, name: str, phase: str, fraction: float | None = None, detail: str = "") -> None:
        self.shown.append(phase)


def reason(tmp_path: Path, *, state: str = "failed", chunks_done: int, lasting: bool) -> str:
    clip = tmp_path / "a.wav"
    clip.write_bytes(b"x")
    request = Request(files=[clip], options=JobOptions(), form="txt", output=None)
    target = _Target("http://127.0.0.1:1", None, lambda _: None, lasting=lasting)
    platform: Any = Platform(state, chunks_done)
    phases = Phases()
    with pytest.raises(CommandError) as failure:
        _transcribe_file(platform, clip, request, target, phases, threading.Event(), set())
    assert phases.shown[-1] == state
    return str(failure.value)


@pytest.mark.parametrize(
    ("state", "why"), [("failed", "it broke down"), ("canceled", "the job was canceled")]
)
def test_a_job_that_ended_half_way_on_a_platform_that_runs_on_says_how_it_is_taken_up(
    tmp_path: Path, state: str, why: str
) -> None:
    told = reason(tmp_path, state=state, chunks_done=4, lasting=True)
    assert told.startswith(f"{why}; 4 of its chunks")
    assert told.endswith("curl -X POST http://127.0.0.1:1/jobs/one/retry")


@pytest.mark.parametrize(("chunks_done", "lasting"), [(0, True), (4, False)])
def test_where_a_retry_gains_nothing_there_is_no_word_of_it(
    tmp_path: Path, chunks_done: int, lasting: bool
) -> None:
    assert reason(tmp_path, chunks_done=chunks_done, lasting=lasting) == "it broke down"
