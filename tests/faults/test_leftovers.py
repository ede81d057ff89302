"""Objects that nothing needs any more leave the store, whatever is killed or hangs."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Engine

from harness.jobs.equal import compute
from harness.jobs.job_store import add_job, add_stored_job, claim, column, expire, step_ids
from harness.jobs.removals import pending, remove_all
from harness.media.recipes import wav
from harness.programs.workers import Fleet, fleet, wait_until
from harness.servers.api_server import api_process, open_upload, part, relayed, stored
from shared.infra.settings import Settings
from shared.infra.storage import PART_BYTES, Storage
from shared.queue.broker import make_broker, send_wakeups
from shared.store.jobs.delete import delete_job
from shared.store.objects.keys import job_prefix, pcm_prefix
from shared.store.objects.removals import schedule_removal
from shared.store.objects.remover import remove_due
from shared.store.queues import LARGE_QUEUE
from shared.store.workers import busy_workers


@pytest.fixture
def impatient(settings: Settings) -> Settings:
    with make_broker(settings).connection_for_write() as connection:
        connection.default_channel.client.flushall()
    return settings.model_copy(
        update={"lease_s": 3.0, "heartbeat_s": 0.5, "sweep_s": 0.5, "keep_audio_s": 0.0}
    )


@pytest.fixture
def workers(impatient: Settings, tmp_path: Path) -> Iterator[Fleet]:
    with fleet(impatient, tmp_path) as started:
        yield started


def objects_of(storage: Storage, job_id: UUID) -> set[str]:
    return {key for key in stored(storage) if job_prefix(job_id) in key}


def test_an_upload_whose_server_is_killed_leaves_nothing_once_its_time_is_up(
    settings: Settings, database: Engine, storage: Storage, tmp_path: Path
) -> None:
    before = stored(storage)
    with api_process(settings, tmp_path / "api.log") as (client, pid):
        client.get("/health/live")
        with open_upload(str(client.base_url), "Content-Length: 50000000") as connection:
            connection.sendall(part("file") + bytes(PART_BYTES + 3 * 1024**2))
            wait_until(lambda: stored(storage) != before)
            os.kill(pid, signal.SIGKILL)
    (key,) = pending(database)
    assert remove_due(database, storage) == 0, "others that are uploaded are left alone"
    (left,) = stored(storage) - before
    assert key in left
    remove_all(database, storage)
    assert stored(storage) == before


def test_a_job_deleted_while_a_worker_prepares_it_leaves_no_objects(
    database: Engine, storage: Storage, workers: Fleet
) -> None:
    # Forty minutes, for which a worker needs longer than this test stands still.
    minute = np.random.default_rng(0).integers(-9_000, 9_000, 60 * 16_000, np.int16)
    job_id = add_stored_job(database, storage, wav(np.tile(minute, 40)))
    (step_id,) = step_ids(database, job_id, "prepare")
    send_wakeups(make_broker(workers.settings), LARGE_QUEUE, 1)
    worker = workers.start("cpu", "--concurrency", "1")

    def frozen() -> bool:
        if not any(pcm_prefix(job_id) in key for key in objects_of(storage, job_id)):
            return False
        worker.signal(signal.SIGSTOP)
        return True

    wait_until(frozen)
    assert column(database, step_id, "state") == "running"
    (seen,) = busy_workers(database, "default", live_s=3600)
    assert [(step.job_id, step.kind) for step in seen.steps] == [(job_id, "prepare")]
    assert seen.role == "cpu"

    delete_job(database, "default", job_id, max_attempts=2)
    assert remove_due(database, storage) == 1
    assert objects_of(storage, job_id) == set()
    worker.signal(signal.SIGCONT)
    # Postgres ended the session of a worker that froze within a transaction.
    wait_until(lambda: "result is dropped" in worker.log or "left to the reaper" in worker.log)
    remove_all(database, storage)
    assert objects_of(storage, job_id) == set()


def test_the_sweeper_removes_audio_whose_time_is_up_and_what_is_due(
    database: Engine, storage: Storage, workers: Fleet
) -> None:
    kept, ended = (add_stored_job(database, storage, b"x") for _ in range(2))
    for job_id in (kept, ended):
        storage.put(f"{pcm_prefix(job_id)}00000.s16le", b"x")
    compute(database, ended)
    workers.start("beat")
    wait_until(lambda: not objects_of(storage, ended))
    assert len(objects_of(storage, kept)) == 2


def test_a_store_that_hangs_holds_up_no_sweep(
    database: Engine, impatient: Settings, tmp_path: Path
) -> None:
    job_id = add_job(database)
    with database.begin() as connection:
        schedule_removal(connection, "tests/anything/", late_writes=False)
    with relayed(impatient, "storage_url") as (cut_off, relay), fleet(cut_off, tmp_path) as workers:
        relay.mute()
        workers.start("beat")
        wait_until(lambda: relay.swallowed)
        dead = claim(database, job_id, "prepare")
        expire(database, dead)
        wait_until(lambda: column(database, dead.step_id, "state") == "queued", within_s=40)
        assert pending(database) == ["tests/anything/"]
