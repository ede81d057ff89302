"""Wake-ups on real Postgres and Valkey: sent after the commit, few, and needed by nobody."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from apiserver import relayed
from celery import Celery
from jobstore import CHUNK, add_job, claim, column, expire, missing_table, prepare, step_ids
from processes import wait_until
from pydantic import SecretStr
from queues import MODEL_QUEUE, take_wakeups
from registry import enter_worker
from sqlalchemy import Engine, text
from webhookstore import add_hook, cancel, ended_job

from shared.infra.database import begin, make_engine
from shared.infra.errors import StorageUnavailable, UnreadableMedia
from shared.infra.settings import Settings
from shared.queue.broker import make_broker
from shared.queue.wakeups import Wakeups
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.retry import retry_job
from shared.store.queues import CPU_QUEUE, DELIVER_QUEUE, LARGE_BYTES, LARGE_QUEUE
from shared.store.states import StepKind
from shared.store.steps import NewStep
from shared.store.steps.unfinished import requeue
from shared.store.successors import insert_steps
from shared.store.wakeups import connect_wakeups
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime, make_runtime
from worker.steps.run import answer, one_by_one

NOWHERE = SecretStr("redis://127.0.0.1:1/0")
LEAST = 4
"""Wake-ups that a queue may hold of which no worker is known."""


@contextmanager
def ringing(settings: Settings) -> Iterator[Engine]:
    """An engine whose transactions wake workers; at the end all that was rung has been sent."""
    engine = make_engine(settings)
    wakeups = Wakeups(engine, make_broker(settings), settings)
    connect_wakeups(engine, wakeups.ring)
    try:
        yield engine
    finally:
        wakeups.close()
        engine.dispose()


def top_up(settings: Settings) -> None:
    """Do as the sweep does."""
    engine = make_engine(settings)
    wakeups = Wakeups(engine, make_broker(settings), settings)
    wakeups.top_up()
    wakeups.close()
    engine.dispose()


def messages(broker: Celery) -> dict[str, int]:
    """How many wake-ups are in each queue."""
    with broker.connection_for_read() as connection:
        redis = connection.default_channel.client
        names = (CPU_QUEUE, LARGE_QUEUE, DELIVER_QUEUE, MODEL_QUEUE)
        return {name: found for name in names if (found := redis.llen(name))}


class Witness:
    """Notes what is rung, and how many steps somebody else sees queued at that moment."""

    def __init__(self, database: Engine) -> None:
        self.rung: list[tuple[str, int, int]] = []
        self.delays_s: list[float] = []
        self._database = database

    def ring(self, queue: str, steps: int, after_s: float) -> None:
        with self._database.begin() as connection:
            seen = connection.execute(
                text("SELECT count(*) FROM steps WHERE queue = :queue AND state = 'queued'"),
                {"queue": queue},
            ).scalar_one()
        self.rung.append((queue, steps, seen))
        self.delays_s.append(after_s)


@pytest.fixture
def witnessed(database: Engine, settings: Settings) -> Iterator[tuple[Engine, Witness]]:
    engine, witness = make_engine(settings), Witness(database)
    connect_wakeups(engine, witness.ring)
    yield engine, witness
    engine.dispose()


# --- after the commit, and for what becomes due ---


def test_a_wake_up_names_its_queue_and_nothing_else(settings: Settings, broker: Celery) -> None:
    with ringing(settings) as engine:
        add_job(engine)
    assert take_wakeups(broker, CPU_QUEUE) == [[CPU_QUEUE]]


def test_workers_are_woken_once_the_step_can_be_seen(witnessed: tuple[Engine, Witness]) -> None:
    engine, witness = witnessed
    add_job(engine)
    assert witness.rung == [(CPU_QUEUE, 1, 1)]


def test_what_is_rolled_back_wakes_nobody(witnessed: tuple[Engine, Witness]) -> None:
    engine, witness = witnessed
    job_id = add_job(engine)
    witness.rung.clear()

    def insert_and_fail() -> None:
        with begin(engine) as connection:
            insert_steps(connection, job_id, StepKind.FINISH, CPU_QUEUE, [NewStep(0)], 3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        insert_and_fail()
    with begin(engine) as connection:  # on the same connection of the pool
        connection.execute(text("SELECT 1"))
    assert witness.rung == []


def plan(engine: Engine, job_id: UUID) -> None:
    prepare(engine, job_id, chunks=3)


def finish_is_due(engine: Engine, job_id: UUID) -> None:
    prepare(engine, job_id, chunks=0)


def large_file(engine: Engine, job_id: UUID) -> None:
    add_job(engine, source_bytes=LARGE_BYTES)


def release(engine: Engine, job_id: UUID) -> None:
    steps.release(engine, claim(engine, job_id, "prepare"))


def reap(engine: Engine, job_id: UUID) -> None:
    expire(engine, claim(engine, job_id, "prepare"))
    steps.reap(engine)


def take_up_again(engine: Engine, job_id: UUID) -> None:
    cancel_job(engine, "default", job_id, max_attempts=3)
    retry_job(engine, "default", job_id, max_attempts=3)


def end_with_a_webhook(engine: Engine, job_id: UUID) -> None:
    add_hook(engine, "https://receiver.example/hook")
    cancel(engine, job_id)


def detect(engine: Engine, job_id: UUID) -> None:
    preparing = claim(engine, job_id, "prepare")
    held = [NewStep(idx, CHUNK) for idx in range(2)]
    steps.add_chunks(engine, preparing, held, max_attempts=3, hold=True)
    steps.add_detect(engine, preparing, [CHUNK], max_attempts=3)
    detecting = claim(engine, job_id, "detect")
    steps.complete_detect(engine, detecting, language="de", probability=1.0, timings={})


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (plan, [(MODEL_QUEUE, 3)]),
        (finish_is_due, [(CPU_QUEUE, 1)]),
        (large_file, [(LARGE_QUEUE, 1)]),
        (release, [(CPU_QUEUE, 1)]),
        (reap, [(CPU_QUEUE, 1)]),
        (take_up_again, [(CPU_QUEUE, 1)]),
        (end_with_a_webhook, [(DELIVER_QUEUE, 1)]),
        (detect, [(MODEL_QUEUE, 1), (MODEL_QUEUE, 2)]),  # detect itself, then what was on hold
    ],
)
def test_workers_are_woken_for_all_that_becomes_due(
    witnessed: tuple[Engine, Witness],
    act: Callable[[Engine, UUID], None],
    expected: list[tuple[str, int]],
) -> None:
    engine, witness = witnessed
    job_id = add_job(engine)
    witness.rung.clear()
    act(engine, job_id)
    assert [(queue, n) for queue, n, _ in witness.rung] == expected


@pytest.mark.parametrize(("delay_s", "rings"), [(20, 1), (60, 0)])
def test_a_worker_is_woken_for_what_is_to_be_tried_again_soon(
    witnessed: tuple[Engine, Witness], delay_s: float, rings: int
) -> None:
    engine, witness = witnessed
    claimed = claim(engine, add_job(engine), "prepare")
    witness.delays_s.clear()
    with begin(engine) as connection:
        requeue(connection, claimed, least_s=delay_s, most_s=delay_s)
    assert witness.delays_s == [pytest.approx(delay_s, abs=10)] * rings


def test_a_wake_up_for_later_is_sent_when_its_time_has_come(
    settings: Settings, database: Engine, broker: Celery
) -> None:
    now_s = 100.0
    wakeups = Wakeups(database, make_broker(settings), settings, clock=lambda: now_s)

    wakeups.ring(MODEL_QUEUE, 1, after_s=20.0)
    wakeups.ring(CPU_QUEUE, 1)
    wait_until(lambda: messages(broker) == {CPU_QUEUE: 1})
    now_s += 20.0
    wakeups.ring(LARGE_QUEUE, 1)

    wait_until(lambda: messages(broker) == {CPU_QUEUE: 1, MODEL_QUEUE: 1, LARGE_QUEUE: 1})
    wakeups.close()


def test_a_wake_up_for_later_needs_no_other_ring(
    settings: Settings, database: Engine, broker: Celery
) -> None:
    wakeups = Wakeups(database, make_broker(settings), settings)
    wakeups.ring(CPU_QUEUE, 1, after_s=0.05)
    wait_until(lambda: messages(broker) == {CPU_QUEUE: 1})
    wakeups.close()


# --- how many ---


def test_there_are_never_more_than_the_ready_workers_have_slots(
    settings: Settings, database: Engine, broker: Celery
) -> None:
    enter_worker(database, model="oracle", slots=7)
    with ringing(settings) as engine:
        for _ in range(3):
            prepare(engine, add_job(engine), chunks=20)
    assert messages(broker)[MODEL_QUEUE] == 7
    top_up(settings)
    assert messages(broker)[MODEL_QUEUE] == 7


def test_there_are_no_more_than_steps_became_due(
    settings: Settings, database: Engine, broker: Celery
) -> None:
    enter_worker(database, model="oracle", slots=7)
    with ringing(settings) as engine:
        prepare(engine, add_job(engine), chunks=2)
    assert messages(broker) == {CPU_QUEUE: 1, MODEL_QUEUE: 2}


@pytest.mark.parametrize("absent", ["loading", "dead", "another's", "none"])
def test_where_no_worker_is_ready_a_few_wake_the_next_one(
    settings: Settings, database: Engine, broker: Celery, absent: str
) -> None:
    if absent == "loading":
        enter_worker(database, model="oracle", slots=20, state="loading")
    elif absent == "dead":
        enter_worker(database, model="oracle", slots=20, seen_s_ago=settings.lease_s + 1)
    elif absent == "another's":
        enter_worker(database, model="starter", slots=20)
    with ringing(settings) as engine:
        prepare(engine, add_job(engine), chunks=40)
    assert messages(broker)[MODEL_QUEUE] == LEAST


def test_a_worker_that_becomes_ready_is_counted_soon(
    settings: Settings, database: Engine, broker: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.queue.wakeups._KEEP_SLOTS_S", 0.0)
    enter_worker(database, model="oracle", slots=9, state="loading")
    with ringing(settings) as engine:
        job_id = add_job(engine)
        prepare(engine, job_id, chunks=40)
        wait_until(lambda: messages(broker).get(MODEL_QUEUE) == LEAST)
        enter_worker(database, model="oracle", slots=9)
        steps.release(engine, claim(engine, job_id, "transcribe"))
    assert messages(broker)[MODEL_QUEUE] == LEAST + 1
    top_up(settings)
    assert messages(broker)[MODEL_QUEUE] == 9


# --- lost, doubled, late ---


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


# --- a broker that is away ---


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
            thread.join(30)
    assert messages(broker)[CPU_QUEUE] == 40
