"""Wake-ups on real Postgres and Valkey: sent after the commit, and few."""

from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from celery import Celery
from sqlalchemy import Engine, text

from harness.jobs.job_store import CHUNK, add_job, claim, expire, prepare
from harness.jobs.queues import MODEL_QUEUE, messages, ringing, take_wakeups, top_up
from harness.jobs.registry import enter_worker
from harness.jobs.webhook_store import add_hook, cancel
from harness.programs.workers import wait_until
from shared.infra.database import begin, make_engine
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

LEAST = 4
"""Wake-ups that a queue may hold of which no worker is known."""


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
