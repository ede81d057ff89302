"""Steps as those who watch Celery's events see them, and what is sent while nobody does."""

import base64
import json
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import redis
from celery import Celery
from pydantic import SecretStr
from sqlalchemy import Engine, text

from harness.jobs.job_store import add_job, add_stored_job, claim, expire, step_ids
from harness.jobs.queues import MODEL_QUEUE
from harness.jobs.step_runner import run_claimed
from harness.jobs.webhook_store import add_hook, deliver_steps, ended_job, loopback, make_due
from harness.media.recipes import wav
from harness.peers.receivers import Reply, receiving
from harness.programs.workers import fleet, wait_until
from shared.infra.errors import UnreadableMedia
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.store import steps
from shared.store.jobs.read import get_job
from shared.store.workers import child_id, live_workers
from worker.batching.batcher import Batcher
from worker.engines.oracle import OracleEngine, encode
from worker.process import watched
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime, make_runtime
from worker.steps.deliver import deliver
from worker.steps.prepare import prepare
from worker.steps.run import answer
from worker.steps.transcribe import infer_steps

WORKER = "cpu@host-1-ab"
BEGINNINGS = ("task-received", "task-started")


@pytest.fixture
def runtime(settings: Settings, broker: Celery) -> Iterator[Runtime]:
    """The runtime of a pool's child."""
    running = make_runtime(settings, child_id(WORKER, "2-cd"))
    yield replace(running, batcher=Batcher(OracleEngine(), max_wait_ms=200))
    running.close()


@pytest.fixture
def watcher() -> Iterator[None]:
    """Somebody who has just asked for events."""
    watched.note_watcher(None)
    yield
    forget_watcher()


def forget_watcher() -> None:
    watched._until[:8] = struct.pack("d", time.monotonic())


class Published:
    """What is published in Redis meanwhile."""

    def __init__(self, settings: Settings) -> None:
        self._client = redis.Redis.from_url(settings.broker_url.get_secret_value())
        self._messages = self._client.pubsub()
        self._messages.psubscribe("*")
        assert self._messages.get_message(timeout=60), "the subscription itself"

    def events(self) -> list[dict[str, Any]]:
        """The tasks' events so far, oldest first."""
        self._client.publish("end", "")
        found: list[dict[str, Any]] = []
        while (message := self._messages.get_message(timeout=60)) is not None:
            if message["channel"] == b"end":
                return found
            body = json.loads(base64.b64decode(json.loads(message["data"])["body"]))
            events = body if isinstance(body, list) else [body]
            found += [each for each in events if each.get("type", "").startswith("task-")]
        raise AssertionError("the last message is lost")

    def close(self) -> None:
        self._messages.close()
        self._client.close()


@contextmanager
def publishing(settings: Settings) -> Iterator[Published]:
    published = Published(settings)
    try:
        yield published
    finally:
        published.close()


def spoken_job(runtime: Runtime) -> UUID:
    """A job of several chunks, which are due."""
    samples, _ = encode(range(140), gap_s=0.3)
    file = wav((samples * 32767).astype(np.int16))
    job_id = add_stored_job(runtime.database, runtime.storage, file)
    run_claimed(runtime, step_ids(runtime.database, job_id, "prepare")[0], prepare)
    return job_id


def fail(_: Runtime, _lease: Lease) -> None:
    raise UnreadableMedia("a poem")


def break_down(_: Runtime, _lease: Lease) -> None:
    raise TypeError("secret words")


@pytest.mark.usefixtures("watcher")
def test_each_claim_of_one_wake_up_is_a_task_of_its_own(
    runtime: Runtime, settings: Settings, database: Engine
) -> None:
    job_id = spoken_job(runtime)
    chunks = step_ids(database, job_id, "transcribe")
    with publishing(settings) as published:
        answer(runtime, MODEL_QUEUE, infer_steps)
        events = published.events()
    received = [each for each in events if each["type"] == "task-received"]
    assert sorted(each["args"] for each in received) == sorted(
        f"job {job_id}, transcribe of chunk {idx}, step {step}" for idx, step in enumerate(chunks)
    )
    assert {each["name"] for each in received} == {"transcribe"}
    assert {each["hostname"] for each in events} == {WORKER}
    assert len({each["uuid"] for each in received}) == len(chunks) > 1
    for task in {each["uuid"] for each in events}:
        own = [each for each in events if each["uuid"] == task]
        assert [each["type"] for each in own] == ["task-received", "task-started", "task-succeeded"]
        assert own[-1]["runtime"] > 0


@pytest.mark.usefixtures("watcher")
def test_another_attempt_at_a_step_is_another_task(
    runtime: Runtime, settings: Settings, database: Engine
) -> None:
    (step,) = step_ids(database, add_job(database), "prepare")
    with publishing(settings) as published:
        run_claimed(runtime, step, break_down)
        with database.begin() as connection:
            connection.execute(text("UPDATE steps SET run_at = now()"))
        run_claimed(runtime, step, fail)
        received = [each for each in published.events() if each["type"] == "task-received"]
    assert [each["retries"] for each in received] == [0, 1]
    assert received[0]["uuid"] != received[1]["uuid"]


@pytest.mark.usefixtures("watcher")
@pytest.mark.parametrize(
    ("handler", "exception"),
    [(fail, "UnreadableMedia('a poem')"), (break_down, 'TypeError("see the worker\'s log")')],
)
def test_a_step_that_failed_is_shown_as_failed_and_a_bugs_own_words_are_not_shown(
    runtime: Runtime, settings: Settings, database: Engine, handler: Any, exception: str
) -> None:
    (step,) = step_ids(database, add_job(database), "prepare")
    with publishing(settings) as published:
        run_claimed(runtime, step, handler)
        *_, last = published.events()
    assert (last["type"], last["exception"], last["traceback"]) == ("task-failed", exception, "")


@pytest.mark.usefixtures("watcher")
def test_an_attempt_that_a_receiver_refuses_is_shown_as_failed_with_its_answer(
    runtime: Runtime, settings: Settings, database: Engine
) -> None:
    with receiving() as receiver, publishing(settings) as published:
        receiver.reply(Reply(500), Reply(204))
        add_hook(database, receiver.url)
        job_id = ended_job(database)
        for _ in range(2):
            make_due(database, job_id)
            (step,) = deliver_steps(database, job_id)
            run_claimed(replace(runtime, outbound=loopback()), step, deliver)
        ends = [each for each in published.events() if each["type"] not in BEGINNINGS]
    assert [each["type"] for each in ends] == ["task-failed", "task-succeeded"]
    assert ends[0]["exception"] == "OutboundFailed('the receiver answered 500')"


@pytest.mark.usefixtures("watcher")
def test_a_chunk_whose_lease_was_lost_is_shown_as_failed(
    runtime: Runtime, settings: Settings, database: Engine
) -> None:
    job_id = spoken_job(runtime)
    lost = claim(database, job_id, "transcribe")
    expire(database, lost)
    steps.reap(database)
    with publishing(settings) as published, runtime.heartbeat.hold([lost]) as leases:
        infer_steps(runtime, leases)
        *_, last = published.events()
    assert last["type"] == "task-failed"
    assert last["exception"].startswith("LeaseLost(")


@pytest.mark.parametrize("before", ["nobody asked", "asked long ago"])
def test_nothing_is_sent_while_nobody_watches(
    runtime: Runtime, settings: Settings, database: Engine, before: str
) -> None:
    if before == "asked long ago":
        watched.note_watcher(None)
        assert watched.is_watched()
        forget_watcher()
    assert not watched.is_watched()
    with publishing(settings) as published:
        job_id = spoken_job(runtime)
        answer(runtime, MODEL_QUEUE, infer_steps)
        assert published.events() == []
    assert get_job(database, "default", job_id).chunks_done > 1


@pytest.mark.usefixtures("watcher")
def test_a_broker_that_is_away_costs_a_watcher_its_view_and_a_step_nothing(
    settings: Settings, database: Engine
) -> None:
    nowhere = SecretStr("redis://127.0.0.1:1/0")
    away = make_runtime(settings.model_copy(update={"broker_url": nowhere}), "test")
    job_id = add_job(database)
    try:
        run_claimed(away, step_ids(database, job_id, "prepare")[0], fail)
    finally:
        away.close()
    assert get_job(database, "default", job_id).error_code == UnreadableMedia.code


def test_worker_processes_send_events_of_steps_alone_and_once_they_are_asked_to(
    settings: Settings, database: Engine, broker: Celery, storage: Storage, tmp_path: Path
) -> None:
    """Neither wake-ups nor sweeps are tasks to a watcher. Children of a pool hear of it too."""
    changes = {"heartbeat_s": 0.5, "sweep_s": 0.5}

    def poem() -> UUID:
        job_id = add_stored_job(database, storage, b"a poem")
        wait_until(lambda: get_job(database, "default", job_id).state == "failed")
        return job_id

    with (
        fleet(settings.model_copy(update=changes), tmp_path) as workers,
        publishing(settings) as published,
    ):
        workers.start("beat")
        workers.start("cpu", "--concurrency", "2")
        wait_until(lambda: [w.state for w in live_workers(database, live_s=30)] == 2 * ["ready"])
        poem()
        assert published.events() == []
        replies = broker.control.broadcast("enable_events", reply=True, timeout=60, limit=2)
        assert len(replies) == 2
        job_id = poem()
        events: list[dict[str, Any]] = []
        wait_until(lambda: events.extend(published.events()) or len(events) >= 3)
    assert [each["type"] for each in events] == ["task-received", "task-started", "task-failed"]
    assert events[0]["args"].startswith(f"job {job_id}, prepare, step ")
