"""A long file is transcribed while it is still being decoded."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from jobstore import add_stored_job, column, step_ids
from media import wav
from processes import Fleet, fleet, wait_until
from sqlalchemy import Engine, text

from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.speech.audio.rate import SAMPLE_RATE
from shared.store.jobs.read import get_job
from worker.engines.oracle import encode


@pytest.fixture
def workers(settings: Settings, tmp_path: Path) -> Iterator[Fleet]:
    with fleet(settings.model_copy(update={"sweep_s": 0.5}), tmp_path) as started:
        yield started


def test_the_first_chunk_is_done_before_the_last_sample_is_decoded(
    database: Engine, storage: Storage, workers: Fleet
) -> None:
    words, _ = encode(range(1000, 1350), gap_s=0.1)
    audio = np.ones(1800 * SAMPLE_RATE, np.int16)  # digital silence would be skipped
    audio[: len(words)] = words * 32767
    job_id = add_stored_job(database, storage, wav(audio))
    workers.start("beat")
    model = workers.start("model", "--model", "oracle")
    wait_until(lambda: " ready." in model.log)
    workers.start("cpu", "--concurrency", "1")

    (prepare,) = step_ids(database, job_id, "prepare")
    wait_until(lambda: column(database, prepare, "state") == "done")
    assert get_job(database, "default", job_id).chunks_total > 60
    with database.begin() as connection:
        first_chunk, last_sample = connection.execute(
            text("""
                SELECT min(finished_at) FILTER (WHERE kind = 'transcribe'),
                       max(finished_at) FILTER (WHERE kind = 'prepare')
                FROM steps WHERE job_id = :id
            """),
            {"id": job_id},
        ).one()
    assert first_chunk < last_sample
