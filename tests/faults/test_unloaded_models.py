"""A model worker drops its model while it is idle, and loads it again for the next work."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from cli.embedded.ports import free_ports
from harness.jobs.job_store import add_stored_job, column, step_ids
from harness.jobs.transcripts import get_transcript
from harness.live.sender import LiveSender, final, texts, words_of
from harness.media.recipes import wav
from harness.programs.workers import Fleet, Worker, fleet, wait_until
from harness.servers import patient
from harness.servers.redis_server import RedisServer
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.store.jobs.read import get_job
from shared.store.jobs.waits import find_waits
from shared.store.workers import live_workers
from worker.engines.oracle import encode, word_text

IDLE_S = 0.5


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@dataclass
class Platform:
    """Workers whose leases outlast any pause, the database, and what holds up a load."""

    workers: Fleet
    database: Engine
    storage: Storage
    load: Path
    """While it exists no model is loaded; its text is why."""

    def start_model(self, **changes: object) -> Worker:
        """Start a model worker, and wait until its model was idle."""
        usual = self.workers.settings
        self.workers.settings = usual.model_copy(update={"idle_unload_s": IDLE_S} | changes)
        worker = self.workers.start("model", "--model", "oracle", FAULTY_LOAD=str(self.load))
        self.workers.settings = usual
        self.await_state("unloaded")
        return worker

    def await_state(self, state: str) -> None:
        wait_until(lambda: state in self.states())

    def states(self) -> list[str]:
        workers = live_workers(self.database, live_s=60)
        return [worker.state for worker in workers if worker.role == "model"]

    def submit(self, *words: int) -> UUID:
        samples, _ = encode(words, gap_s=0.3)
        return add_stored_job(self.database, self.storage, wav((samples * 32767).astype(np.int16)))

    def await_transcript(self, job_id: UUID, *words: int) -> None:
        wait_until(lambda: get_job(self.database, "default", job_id).state == "succeeded")
        heard = get_transcript(self.database, "default", job_id).text
        assert heard == " ".join(map(word_text, words))
        (step,) = step_ids(self.database, job_id, "transcribe")
        assert column(self.database, step, "attempt") == 1

    def await_reload(self) -> None:
        """Wait until a worker is in the middle of loading its model."""
        wait_until(Path(f"{self.load}.reached").exists)
        self.await_state("loading")


@pytest.fixture
def platform(
    database: Engine, storage: Storage, settings: Settings, redis: RedisServer, tmp_path: Path
) -> Iterator[Platform]:
    impatient = settings.model_copy(
        update={
            "broker_url": SecretStr(redis.url),
            "lease_s": 20.0,
            "heartbeat_s": 0.5,
            "sweep_s": 0.5,
        }
    )
    with fleet(impatient, tmp_path) as workers:
        workers.start("beat")
        workers.start("cpu", "--concurrency", "1")
        yield Platform(workers, database, storage, tmp_path / "load")


def test_a_job_has_an_idle_model_loaded_and_whoever_asks_is_told_of_it(platform: Platform) -> None:
    (port,) = free_ports(1)
    worker = platform.start_model(health_port=port)

    def ready() -> tuple[int, str]:
        answer = patient.get(f"http://127.0.0.1:{port}/health/ready")
        return answer.status_code, answer.json()["status"]

    def is_loaded() -> bool:
        return (
            'longhand_model_loaded{model="oracle"} 1.0'
            in patient.get(f"http://127.0.0.1:{port}/metrics").text
        )

    assert ready() == (200, "unloaded")
    assert not is_loaded()

    platform.load.touch()
    job_id = platform.submit(1, 2, 3)
    platform.await_reload()
    wait_until(lambda: ready() == (200, "loading"))
    waits = find_waits(platform.database, [job_id], live_s=60)
    assert waits[job_id].detail == "a worker for model oracle (it is loading)"
    (step,) = step_ids(platform.database, job_id, "transcribe")
    assert column(platform.database, step, "state") == "queued"
    assert column(platform.database, step, "attempt") == 0

    platform.load.unlink()
    platform.await_transcript(job_id, 1, 2, 3)
    platform.await_state("unloaded")
    assert worker.log.count("loaded oracle: oracle 1") == 2
    assert worker.log.count("unloaded oracle, which nobody used") == 2
    assert worker.stop() == 0


def test_a_worker_that_is_killed_while_it_loads_its_model_again_costs_no_attempt(
    platform: Platform,
) -> None:
    worker = platform.start_model()
    platform.load.touch()
    job_id = platform.submit(4, 5)
    platform.await_reload()
    worker.signal(signal.SIGKILL)
    worker.process.wait()
    platform.load.unlink()

    platform.workers.start("model", "--model", "oracle")
    platform.await_transcript(job_id, 4, 5)


def test_a_model_that_cannot_be_loaded_again_ends_its_worker_as_at_the_start(
    platform: Platform,
) -> None:
    worker = platform.start_model()
    platform.load.write_text("its weights are gone")
    job_id = platform.submit(6)
    assert worker.process.wait(60) == 1
    assert worker.log.rstrip().endswith("Error: its weights are gone")
    wait_until(lambda: platform.states() == [])
    (step,) = step_ids(platform.database, job_id, "transcribe")
    assert column(platform.database, step, "attempt") == 0
    platform.load.unlink()

    platform.workers.start("model", "--model", "oracle")
    platform.await_transcript(job_id, 6)


def test_live_requests_and_sessions_that_begin_have_an_idle_model_loaded(
    platform: Platform,
) -> None:
    worker = platform.start_model()
    sender = LiveSender(platform.workers.settings)
    try:
        wait_until(lambda: (sender.load().workers, sender.load().loaded) == (1, 0))
        sender.rouse()
        wait_until(lambda: worker.log.count("loaded oracle: oracle 1") == 2)
        platform.await_state("unloaded")

        platform.load.touch()
        (asked,) = sender.hear(final(7, 8))
        platform.await_reload()
        assert sender.load().workers == 1
        platform.load.unlink()
        assert words_of(asked.result(60)) == texts(7, 8)
        assert sender.load().wait_ms < 1_000, "the time of the load is no time of an answer"
    finally:
        sender.close()
