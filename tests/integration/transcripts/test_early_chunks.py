"""A long file is transcribed while it is still being decoded."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from harness.jobs.job_store import add_stored_job, column, step_ids
from harness.jobs.step_runner import run_claimed
from harness.media.recipes import wav
from harness.programs.workers import Fleet, fleet, wait_until
from shared.infra.settings import Settings
from shared.speech.audio.rate import SAMPLE_RATE
from shared.store.jobs.read import get_job
from shared.store.objects.keys import source_key
from worker.engines.oracle import encode
from worker.process.runtime import Runtime, make_runtime
from worker.steps.prepare import prepare


@pytest.fixture
def workers(settings: Settings, tmp_path: Path) -> Iterator[Fleet]:
    with fleet(settings.model_copy(update={"sweep_s": 0.5}), tmp_path) as started:
        yield started


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    running = make_runtime(settings, "test")
    yield running
    running.close()


def test_the_first_chunk_is_done_before_the_last_sample_is_decoded(
    database: Engine, runtime: Runtime, workers: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, _ = encode(range(1000, 1350), gap_s=0.1)
    audio = np.ones(1800 * SAMPLE_RATE, np.int16)  # digital silence would be skipped
    audio[: len(words)] = words * 32767
    file = wav(audio)
    job_id = add_stored_job(database, runtime.storage, file)
    workers.start("beat")
    workers.start("model", "--model", "oracle")
    read = runtime.storage.read

    def read_the_end_later(key: str, start: int, stop: int) -> bytes:
        if key == source_key(job_id) and stop == len(file):
            wait_until(lambda: get_job(database, "default", job_id).chunks_done)
        return read(key, start, stop)

    monkeypatch.setattr(runtime.storage, "read", read_the_end_later)

    (step,) = step_ids(database, job_id, "prepare")
    run_claimed(runtime, step, prepare)

    assert column(database, step, "state") == "done"
    assert get_job(database, "default", job_id).chunks_total > 60
