"""What the command line shows of a job that waits, and of a model taken for want of a better."""

from typing import Any

import pytest
from longhand_sdk import JobInfo

from cli.local_models import second_best_note
from cli.progress.lines import Progress
from cli.transcribe.file_jobs import show_job
from shared.infra.settings import Settings
from shared.models.catalogue import load_catalogue


class Shown(Progress):
    """Progress that is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []

    def show(self, name: str, phase: str, fraction: float | None = None, detail: str = "") -> None:
        self.lines.append((phase, detail))


def job(**fields: Any) -> JobInfo:
    return JobInfo.model_validate({"id": "one", "state": "running", **fields})


def test_a_job_that_waits_is_shown_with_what_it_waits_for() -> None:
    shown = Shown()
    progress = {"stage": "transcribing", "chunks_done": 1, "chunks_total": 2, "percent": 40.0}
    waiting = {"code": "model_worker", "detail": "a worker for model whisper-small"}

    show_job(shown, "a.wav", job(progress=progress, waiting_for=waiting))
    show_job(shown, "a.wav", job(progress=progress, waiting_for=None))

    assert shown.lines[0] == ("waiting", "for a worker for model whisper-small")
    assert shown.lines[1][0] == "transcribing"


@pytest.mark.parametrize("model", ["starter", "whisper-tiny"])
def test_the_note_on_a_second_best_model_fits_its_frame_and_is_true(model: str) -> None:
    catalogue = load_catalogue(Settings().catalogue)
    reason = "weights (148 MB) not downloaded, and the model hub does not answer " + "at all " * 20

    lines = second_best_note(catalogue.get(model), catalogue.get("whisper-base"), reason).split(
        "\n"
    )

    assert lines[0] == lines[-1] == 78 * "="
    assert max(map(len, lines)) == 78
    assert f"Using '{model}'" in lines[1]
    assert ("LOW ACCURACY" in lines[1]) == (model == "starter")
    assert "'whisper-base' is not usable: weights (148 MB)" in " ".join(lines)
