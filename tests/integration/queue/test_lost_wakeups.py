"""Wake-ups that are lost, doubled or late, and an absent broker, change nothing but latency."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from uuid import UUID

import pytest
from celery import Celery
from pydantic import SecretStr
from sqlalchemy import Engine, text

from harness.jobs.job_store import CHUNK, add_job, claim, column, missing_table, step_ids
from harness.jobs.queues import messages, ringing, take_wakeups, top_up
from harness.jobs.registry import enter_worker
from harness.jobs.webhook_store import add_hook, ended_job
from harness.programs.workers import wait_until
from harness.servers.api_server import relayed
from shared.infra.errors import StorageUnavailable, UnreadableMedia
from shared.infra.settings import Settings
from shared.store import steps
from shared.store.queues import CPU_QUEUE, DELIVER_QUEUE, LARGE_BYTES, LARGE_QUEUE
from shared.store.states import StepKind
from shared.store.steps import NewStep
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime, make_runtime
from worker.steps.run import answer, one_by_one

NOWHERE = SecretStr("redis://127.0.0.1:1/0")


def test_a_wake_up_that_was_lost_is_made_up_for_by_the_sweep(
    settings: Settings, database: Engine, broker: Celery
) -> None:
    with ringing(settings) as engine:
        job_id = add_job(engine)
    assert take_wakeups(broker, CPU_QUEUE)  # taken, and lost
    (step,) = step_ids(database, job_id, "prepare")
    before = column(database, step, "steps")
    top_up(settings)
    assert take_wakeups(broker, CPU_QUEUE) == [[CPU_QUEUE]]
    assert column(database, step, "steps") == before, "nothing records what was sent"


def test_the_sweep_wakes_workers_for_what_is_due_in_any_queue_and_for_nothing_else(
    settings: Settings, database: Engine, broker: Celery
) -> None:
    for queue in (CPU_QUEUE, LARGE_QUEUE):
        add_job(database, source_bytes=LARGE_BYTES if queue == LARGE_QUEUE else 1)
    add_hook(database, "https://receiver.example/hook")
    ended_job(database)
    held = add_job(database)
    preparing = claim(database, held, "prepare")
    steps.add_chunks(database, preparing, [NewStep(0, CHUNK)], max_attempts=3, hold=True)
    later = claim(database, add_job(database), "prepare")
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE steps SET state = 'queued', run_at = now() + interval '1 h' WHERE id = :id
            """),
            {"id": later.step_id},
        )
    top_up(settings)
    assert messages(broker) == {CPU_QUEUE: 1, LARGE_QUEUE: 1, DELIVER_QUEUE: 1}


def test_what_came_due_in_its_time_is_woken_for_by_the_sweep(
    settings: Settings, database: Engine, broker: Celery
) -> None:
    claimed = claim(database, add_job(database), "prepare")
    steps.retry(database, claimed, StorageUnavailable("away"), base_s=0)
    top_up(settings)
    assert messages(broker) == {CPU_QUEUE: 1}


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    running = make_runtime(settings, "test")
    yield running
    running.close()


def test_wake_ups_doubled_and_late_change_nothing(runtime: Runtime, database: Engine) -> None:
    job_id = add_job(database)
    done: Counter[UUID] = Counter()

    def fail(_: Runtime, lease: Lease) -> None:
        done[lease.claim.job_id] += 1
        raise UnreadableMedia("a poem")

    for _ in range(3):
        answer(runtime, CPU_QUEUE, one_by_one({StepKind.PREPARE: fail}))
    assert done == {job_id: 1}
    (step,) = step_ids(database, job_id, "prepare")
    assert (column(database, step, "attempt"), column(database, step, "epoch")) == (1, 1)


def test_an_absent_broker_costs_a_line_in_the_log_and_nothing_else(
    settings: Settings, database: Engine, broker: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    absent = settings.model_copy(update={"broker_url": NOWHERE})
    with caplog.at_level(logging.WARNING), ringing(absent) as engine:
        job_id = add_job(engine)
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.exc_info is None
    assert line.getMessage() == ("Redis cannot be reached: the sweep wakes the workers of cpu")
    assert step_ids(database, job_id, "prepare")
    top_up(settings)
    assert messages(broker) == {CPU_QUEUE: 1}


def test_nobody_waits_for_a_broker_that_says_nothing(
    settings: Settings, broker: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.queue.broker._CONNECT_TIMEOUT_S", 120.0)
    monkeypatch.setattr("shared.queue.broker._SEND_TIMEOUT_S", 120.0)
    with relayed(settings, "broker_url") as (muted, relay):
        relay.mute()
        with ringing(muted) as engine:
            asked = time.monotonic()
            for _ in range(3):
                add_job(engine)
            assert time.monotonic() - asked < 60
            relay.cut()  # lets the thread go that sends
    assert messages(broker) == {}


def test_the_sender_outlives_an_error_that_nobody_expected(
    settings: Settings,
    database: Engine,
    broker: Celery,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ringing(settings) as engine:
        with missing_table(database, "workers"):
            add_job(engine)
            wait_until(lambda: "unexpected error" in caplog.text)
        add_job(engine)
    assert messages(broker)[CPU_QUEUE] >= 1


def test_rings_from_many_threads_are_all_counted(
    settings: Settings, database: Engine, broker: Celery
) -> None:
    enter_worker(database, "cpu", slots=100)
    start = threading.Barrier(8)
    with ringing(settings) as engine:

        def add(_: int) -> None:
            start.wait()
            for _ in range(5):
                add_job(engine)

        threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert messages(broker)[CPU_QUEUE] == 40
