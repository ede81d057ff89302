"""A worker process with two models, each of which is a worker of its own to everybody else."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from cli.embedded.ports import free_ports
from harness.jobs.job_store import ORACLE, add_stored_job, column, end_leases, step_ids
from harness.jobs.transcripts import get_transcript
from harness.live.sender import LiveSender, final, texts, words_of
from harness.media.recipes import wav
from harness.programs.workers import Fleet, Worker, fleet, wait_until
from harness.servers import patient
from harness.servers.redis_server import RedisServer
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.store.jobs.read import get_job
from shared.store.workers import live_workers, set_drained
from worker.engines.oracle import encode, word_text
from worker.roles.model import BATCHES

MODELS = "oracle", "second"
SECOND = """
[models.second]
description = "Another oracle."
engine = "oracle"
source = "longhand"
revision = "1"
languages = "any"
window_s = 30.0
vad = "energy"
size_bytes = 0
"""


@dataclass
class Platform:
    """Workers whose leases outlast any pause, and the database."""

    workers: Fleet
    database: Engine
    storage: Storage

    def start_models(self, **faults: str) -> Worker:
        return self.workers.start("model", "--model", ",".join(MODELS), **faults)

    def ids(self) -> dict[str, str]:
        """The worker of each model."""
        workers = live_workers(self.database, live_s=60)
        return {each.model: each.id for each in workers if each.model and each.state != "loading"}

    def states(self) -> dict[str | None, str]:
        workers = live_workers(self.database, live_s=60)
        return {each.model: each.state for each in workers if each.role == "model"}

    def submit(self, model: str, *words: int) -> UUID:
        samples, _ = encode(words, gap_s=0.3)
        options = ORACLE.model_copy(update={"model": model})
        data = wav((samples * 32767).astype(np.int16))
        return add_stored_job(self.database, self.storage, data, options=options)

    def await_transcript(self, job_id: UUID, *words: int) -> None:
        wait_until(lambda: get_job(self.database, "default", job_id).state == "succeeded")
        heard = get_transcript(self.database, "default", job_id).text
        assert heard == " ".join(map(word_text, words))

    def steps(self, job_id: UUID) -> list[tuple[object, object]]:
        """State and owner of each step that hears the job."""
        found = step_ids(self.database, job_id, "transcribe")
        names = "state", "lease_owner"
        return [tuple(column(self.database, each, name) for name in names) for each in found]

    def is_held(self, job_id: UUID, worker: str) -> bool:
        return self.steps(job_id) == [("running", worker)]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def platform(
    database: Engine, storage: Storage, settings: Settings, redis: RedisServer, tmp_path: Path
) -> Iterator[Platform]:
    catalogue = tmp_path / "models.toml"
    catalogue.write_text(settings.catalogue.read_text() + SECOND)
    impatient = settings.model_copy(
        update={
            "broker_url": SecretStr(redis.url),
            "catalogue": catalogue,
            "lease_s": 20.0,
            "heartbeat_s": 0.5,
            "sweep_s": 0.5,
        }
    )
    with fleet(impatient, tmp_path) as workers:
        workers.start("beat")
        workers.start("cpu", "--concurrency", "2")
        yield Platform(workers, database, storage)


def test_two_models_in_one_worker_are_heard_drained_and_told_of_as_two_workers(
    platform: Platform,
) -> None:
    (port,) = free_ports(1)
    usual = platform.workers.settings
    platform.workers.settings = usual.model_copy(update={"health_port": port})
    worker = platform.start_models()
    ids = wait_until(lambda: (found := platform.ids()).keys() == set(MODELS) and found)
    ready = patient.get(f"http://127.0.0.1:{port}/health/ready")
    assert ready.json() == {"status": "ready", "role": "model", "model": "oracle,second"}
    metrics = patient.get(f"http://127.0.0.1:{port}/metrics").text
    assert all(f'longhand_model_loaded{{model="{model}"}} 1.0' in metrics for model in MODELS)

    jobs = [(platform.submit(model, n), n) for n in range(1, 5) for model in MODELS]
    for job_id, n in jobs:
        platform.await_transcript(job_id, n)
    with closing(LiveSender(usual)) as sender:
        wait_until(lambda: sender.load("oracle").workers == sender.load("second").workers == 1)
        asked = [replace(final(7, n), model=model) for n in (8, 9) for model in MODELS]
        heard = [words_of(answer.result(60)) for answer in sender.hear(*asked)]
        assert heard == [texts(7, 8), texts(7, 8), texts(7, 9), texts(7, 9)]

        set_drained(platform.database, ids["second"], drained=True, live_s=60)
        wait_until(lambda: sender.load("second").workers == 0)
        assert sender.load("oracle").workers == 1
    waiting = platform.submit("second", 5)
    platform.await_transcript(platform.submit("oracle", 6), 6)
    wait_until(lambda: platform.steps(waiting) == [("queued", None)])
    assert platform.states() == {"oracle": "ready", "second": "drained"}

    set_drained(platform.database, ids["second"], drained=False, live_s=60)
    platform.await_transcript(waiting, 5)
    assert worker.stop() == 0
    assert platform.ids() == {}


def test_a_model_with_much_to_do_keeps_no_other_from_its_work_and_a_kill_loses_nothing(
    platform: Platform, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = platform.start_models(FAULTY_GATE=str(gate))
    ids = wait_until(lambda: (found := platform.ids()).keys() == set(MODELS) and found)
    gate.touch()
    many = [platform.submit("oracle", n, n) for n in range(1, 13)]
    wait_until(Path(f"{gate}.reached").exists)
    wait_until(lambda: sum(platform.is_held(each, ids["oracle"]) for each in many) > BATCHES)
    one = platform.submit("second", 99)
    wait_until(lambda: platform.is_held(one, ids["second"]))

    worker.kill()
    steps = [step_ids(platform.database, each, "transcribe") for each in (*many, one)]
    end_leases(platform.database, [*chain.from_iterable(steps)])
    gate.unlink()
    platform.start_models()
    for n, job_id in enumerate(many, 1):
        platform.await_transcript(job_id, n, n)
    platform.await_transcript(one, 99)


def test_each_model_of_a_worker_is_unloaded_when_nobody_uses_it_and_loaded_for_its_own_work(
    platform: Platform,
) -> None:
    usual = platform.workers.settings
    platform.workers.settings = usual.model_copy(update={"idle_unload_s": 0.5})
    worker = platform.start_models()
    wait_until(lambda: platform.states() == dict.fromkeys(MODELS, "unloaded"))
    platform.await_transcript(platform.submit("second", 4), 4)
    assert worker.log.count("loaded second: oracle 1") == 2
    assert worker.log.count("loaded oracle: oracle 1") == 1
    wait_until(lambda: platform.states() == dict.fromkeys(MODELS, "unloaded"))
    assert worker.stop() == 0


def test_queues_that_were_left_are_taken_from_again_after_redis_was_away(
    platform: Platform, redis: RedisServer, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = platform.start_models(FAULTY_GATE=str(gate))
    wait_until(lambda: platform.ids().keys() == set(MODELS))
    gate.touch()
    jobs = [(platform.submit(model, n), n) for n in range(1, 13) for model in MODELS]
    wait_until(Path(f"{gate}.reached").exists)
    redis.kill()
    redis.start()
    gate.unlink()
    for job_id, n in jobs:
        platform.await_transcript(job_id, n)
    for model in MODELS:
        platform.await_transcript(platform.submit(model, 50), 50)
    assert worker.bugs == []
    assert worker.stop() == 0
