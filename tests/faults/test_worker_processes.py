"""A worker's processes go on when one of them, or Redis, goes away."""

import io
import math
import signal
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import psutil
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from harness.jobs.job_store import add_stored_job, column, end_leases, step_ids
from harness.jobs.transcripts import get_transcript
from harness.programs.processes import is_alive
from harness.programs.workers import Fleet, Worker, fleet, wait_until
from harness.servers.api_server import stored
from harness.servers.redis_server import RedisServer
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.speech.audio.rate import SAMPLE_RATE
from shared.store.jobs.read import get_job
from shared.store.objects.keys import pcm_prefix
from shared.store.queues import CPU_QUEUE, FETCH_QUEUE, LARGE_QUEUE, LISTEN_QUEUE
from shared.store.workers import live_workers, parent_id, set_drained
from worker.engines.oracle import encode

DECODERS = "worker.media.sandbox.server"
CPU_QUEUES = (CPU_QUEUE, LARGE_QUEUE, FETCH_QUEUE, LISTEN_QUEUE)
NOTICED_S = 10.0
"""A parent notices at once that a child died, and a sweep is due every 0.5 s: the rest is load."""
BACK_S = 20.0
"""How long after Redis is back a job may last that nobody could be woken for."""
TRIES = 3
"""The machine may stand still meanwhile, but not each time."""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def workers(settings: Settings, redis: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet on a broker of its own, with leases that outlast any pause of a worker."""
    impatient = settings.model_copy(
        update={
            "broker_url": SecretStr(redis.url),
            "lease_s": 20.0,
            "heartbeat_s": 0.5,
            "sweep_s": 0.5,
        }
    )
    with fleet(impatient, tmp_path) as started:
        yield started


def pool(worker: Worker) -> list[psutil.Process]:
    """Return the children that take steps; the server of decoders is none of them."""
    children = psutil.Process(worker.process.pid).children()
    return [each for each in children if DECODERS not in " ".join(each.cmdline())]


def recording(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def noise(*, minutes: int) -> bytes:
    """A file that takes a worker at least a tenth of a second to prepare for each minute of it."""
    minute = np.random.default_rng(0).uniform(-0.5, 0.5, 60 * SAMPLE_RATE).astype(np.float32)
    return recording(np.tile(minute, minutes))


def test_workers_go_on_by_themselves_once_redis_is_back(
    database: Engine, storage: Storage, workers: Fleet, redis: RedisServer
) -> None:
    started = [
        workers.start("beat"),
        workers.start("cpu", "--concurrency", "1"),
        workers.start("model", "--model", "oracle"),
    ]
    # Celery says nothing of a broker that goes away while it starts.
    wait_until(lambda: all(" ready." in worker.log for worker in started))

    def went_on_after_s() -> float:
        told = [worker.log.count("Cannot connect") for worker in started]
        redis.kill()
        wait_until(
            lambda: all(
                worker.log.count("Cannot connect") > before
                for worker, before in zip(started, told, strict=True)
            )
        )
        words = recording(encode(range(1000, 1005), gap_s=0.3)[0])
        job_id = add_stored_job(database, storage, words)
        redis.start()
        began = time.monotonic()
        wait_until(lambda: get_job(database, "default", job_id).state == "succeeded")
        heard = get_transcript(database, "default", job_id).text
        assert heard == "w01000 w01001 w01002 w01003 w01004"
        return time.monotonic() - began

    assert any(went_on_after_s() < BACK_S for _ in range(TRIES))
    for worker in started:
        assert worker.process.poll() is None
        assert "secret" not in worker.log
        assert worker.bugs == []


def test_a_worker_that_stops_releases_the_file_it_is_preparing(
    database: Engine, storage: Storage, workers: Fleet
) -> None:
    job_id = add_stored_job(database, storage, noise(minutes=40))
    workers.start("beat")
    worker = workers.start("cpu", "--concurrency", "1")
    (step,) = step_ids(database, job_id, "prepare")
    wait_until(lambda: column(database, step, "state") == "running")
    assert worker.stop() == 0
    assert column(database, step, "state") == "queued"
    assert column(database, step, "attempt") == 0
    assert "is released" in worker.log


def test_a_worker_stops_soon_although_it_missed_the_result_of_a_step(
    database: Engine, storage: Storage, workers: Fleet
) -> None:
    job_id = add_stored_job(database, storage, recording(np.zeros(SAMPLE_RATE)))
    workers.start("beat")
    worker = workers.start("cpu", "--concurrency", "1", FAULTY_COUNT="1")
    (step,) = step_ids(database, job_id, "prepare")
    wait_until(lambda: column(database, step, "state") == "done")
    assert worker.stop(within_s=25) == 0


def test_a_drained_worker_finishes_what_it_has_takes_nothing_more_and_goes_on_when_resumed(
    database: Engine, storage: Storage, workers: Fleet
) -> None:
    in_hand = add_stored_job(database, storage, noise(minutes=10))
    workers.start("beat")
    first = workers.start("cpu", "--concurrency", "1")

    def prepared(job_id: UUID) -> str:
        """Wait until the job is prepared; return the worker that did it."""
        (step,) = step_ids(database, job_id, "prepare")
        wait_until(lambda: column(database, step, "state") == "done")
        return parent_id(str(column(database, step, "lease_owner")))

    (step,) = step_ids(database, in_hand, "prepare")
    wait_until(lambda: column(database, step, "state") == "running")
    (drained,) = [each.id for each in live_workers(database, live_s=60) if each.role == "cpu"]
    assert set_drained(database, drained, drained=True, live_s=60).state == "drained"
    wait_until(lambda: first.log.count("Canceling queue") == len(CPU_QUEUES))
    assert prepared(in_hand) == drained
    assert column(database, step, "attempt") == 1

    silence = recording(np.zeros(SAMPLE_RATE))
    left = add_stored_job(database, storage, silence)
    second = workers.start("cpu", "--concurrency", "1")
    other = prepared(left)
    assert other != drained
    set_drained(database, other, drained=True, live_s=60)
    wait_until(lambda: second.log.count("Canceling queue") == len(CPU_QUEUES))
    set_drained(database, drained, drained=False, live_s=60)
    assert prepared(add_stored_job(database, storage, silence)) == drained


def test_a_killed_child_is_replaced_and_its_step_done_again_long_before_its_lease_runs_out(
    database: Engine, storage: Storage, workers: Fleet
) -> None:
    workers.settings = workers.settings.model_copy(update={"lease_s": 600.0})
    workers.start("beat")
    worker = workers.start("cpu", "--concurrency", "1")

    def claimed_again_after_s() -> float:
        job_id = add_stored_job(database, storage, noise(minutes=20))
        (step,) = step_ids(database, job_id, "prepare")
        wait_until(lambda: column(database, step, "state") == "running")
        (child,) = pool(worker)
        child.send_signal(signal.SIGKILL)
        began = time.monotonic()
        wait_until(
            lambda: (
                column(database, step, "attempt") == 2 or column(database, step, "state") == "done"
            )
        )
        took_s = time.monotonic() - began
        wait_until(lambda: column(database, step, "state") == "done")
        # Where this test stood still, the child was done before it was killed.
        return took_s if column(database, step, "attempt") == 2 else math.inf

    assert any(claimed_again_after_s() < NOTICED_S for _ in range(TRIES))
    assert worker.process.poll() is None


def test_the_children_of_a_killed_worker_die_with_it_in_the_middle_of_their_work(
    database: Engine, storage: Storage, workers: Fleet
) -> None:
    job_id = add_stored_job(database, storage, noise(minutes=40))
    workers.start("beat")
    worker = workers.start("cpu", "--concurrency", "2")
    (step,) = step_ids(database, job_id, "prepare")
    wait_until(lambda: pieces(storage, job_id))
    parent = psutil.Process(worker.process.pid)
    children = parent.children(recursive=True)
    assert len(pool(worker)) == 2
    parent.kill()
    worker.process.wait()
    try:
        wait_until(lambda: not any(map(is_alive, children)))
    finally:
        for child in filter(is_alive, children):
            child.kill()
    written = pieces(storage, job_id)
    end_leases(database, [step])
    wait_until(lambda: column(database, step, "state") == "queued")
    assert column(database, step, "attempt") == 1
    assert pieces(storage, job_id) == written


def pieces(storage: Storage, job_id: UUID) -> set[str]:
    return {key for key in stored(storage) if pcm_prefix(job_id) in key}
