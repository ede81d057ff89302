"""What the command line says of a job that failed or was canceled half way."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from longhand_sdk import JobInfo

from cli.progress.lines import Progress
from cli.transcribe.batch import Batch
from cli.transcribe.file_jobs import FileJobs
from cli.transcribe.platform import Platform
from cli.transcribe.request import Request
from cli.transcribe.sources import find_sources
from shared.models.options import JobOptions


class Ended:
    """The jobs of a platform on which each has ended at once, and not well; a client of it, too."""

    def __init__(self, state: str, chunks_done: int) -> None:
        self._job = {
            "id": "one",
            "state": state,
            "progress": {"stage": state, "chunks_done": chunks_done, "chunks_total": 9},
            "error": {"code": "engine_failed", "detail": "it broke down"}
            if state == "failed"
            else None,
        }

        self.jobs = self

    def submit(self, path: Path, **asked: object) -> Any:
        info = JobInfo.model_validate(self._job)
        return SimpleNamespace(id=info.id, state=info.state, info=info)

    def close(self) -> None:
        pass


def wait(until: Callable[[], bool]) -> None:
    while not until():
        time.sleep(0.001)


def reason(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    state: str = "failed",
    chunks_done: int,
    lasting: bool,
) -> str:
    clip = tmp_path / "a.wav"
    clip.write_bytes(b"x")
    client: Any = Ended(state, chunks_done)
    jobs = FileJobs(
        Request(files=(clip,), options=JobOptions()),
        Platform("http://127.0.0.1:1", None, wait, lasting=lasting),
        Progress(),
        threading.Event(),
        client,
    )
    with Batch(jobs) as batch:
        batch.add(find_sources([clip]).sources, None)
        wait(batch.look)
        assert not batch.summarize()
    return capsys.readouterr().err.splitlines()[-1].removeprefix(f"longhand: error: {clip}: ")


@pytest.mark.parametrize(
    ("state", "why"), [("failed", "it broke down"), ("canceled", "the job was canceled")]
)
def test_a_job_that_ended_half_way_on_a_platform_that_runs_on_says_how_it_is_taken_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], state: str, why: str
) -> None:
    told = reason(tmp_path, capsys, state=state, chunks_done=4, lasting=True)
    assert told.startswith(f"{why}; 4 of its chunks")
    assert told.endswith("curl -X POST http://127.0.0.1:1/jobs/one/retry")


@pytest.mark.parametrize(("chunks_done", "lasting"), [(0, True), (4, False)])
def test_where_a_retry_gains_nothing_there_is_no_word_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], chunks_done: int, lasting: bool
) -> None:
    assert reason(tmp_path, capsys, chunks_done=chunks_done, lasting=lasting) == "it broke down"
