"""What a worker does about a wake-up: claims, works, and goes on for as long as there is more."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from celery import Celery
from sqlalchemy import Engine, text

from harness.database.statements import seen_by
from harness.jobs.job_store import add_job, column, step_ids
from harness.jobs.queues import take_wakeups
from harness.programs.workers import wait_until
from harness.servers.api_server import relayed
from shared.infra.errors import UnreadableMedia
from shared.infra.settings import Settings
from shared.store.jobs.read import get_job
from shared.store.queues import CPU_QUEUE
from shared.store.states import StepKind
from worker.process import drain
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime, make_runtime
from worker.steps import run
from worker.steps.run import Work, answer, one_by_one


@pytest.fixture
def runtime(settings: Settings, broker: Celery) -> Iterator[Runtime]:
    running = make_runtime(settings, "test")
    yield running
    running.close()


class Notes:
    """Fails every file that is to be prepared, and notes whose it was."""

    def __init__(self) -> None:
        self.jobs: list[UUID] = []

    def prepare(self, _: Runtime, lease: Lease) -> None:
        self.jobs.append(lease.claim.job_id)
        raise UnreadableMedia("a poem")

    @property
    def work(self) -> Work:
        return one_by_one({StepKind.PREPARE: self.prepare})


def test_one_wake_up_is_enough_for_all_that_is_due(runtime: Runtime, database: Engine) -> None:
    jobs, notes = [add_job(database) for _ in range(5)], Notes()
    answer(runtime, CPU_QUEUE, notes.work)
    assert notes.jobs == jobs
    assert {get_job(database, "default", job_id).state for job_id in jobs} == {"failed"}


def test_a_wake_up_for_which_nothing_is_due_does_nothing(runtime: Runtime) -> None:
    notes = Notes()
    answer(runtime, CPU_QUEUE, notes.work)
    assert notes.jobs == []


def test_a_worker_that_has_gone_on_for_long_wakes_another_and_stops(
    runtime: Runtime, database: Engine, broker: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery bounds the time of a task, and a worker's child is replaced between tasks alone."""
    monkeypatch.setattr(run, "KEEP_GOING_S", 0.0)
    jobs, notes = [add_job(database) for _ in range(3)], Notes()
    answer(runtime, CPU_QUEUE, notes.work)
    assert notes.jobs == jobs[:1]
    runtime.wakeups.close()
    assert take_wakeups(broker, CPU_QUEUE) == [[CPU_QUEUE]]


def test_a_worker_that_was_told_to_stop_claims_nothing_more(
    runtime: Runtime, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, notes = [add_job(database) for _ in range(3)], Notes()
    monkeypatch.setattr(drain, "has_begun", lambda: bool(notes.jobs))
    answer(runtime, CPU_QUEUE, notes.work)
    assert notes.jobs == jobs[:1]
    (second,) = step_ids(database, jobs[1], "prepare")
    assert (column(database, second, "state"), column(database, second, "epoch")) == ("queued", 0)


def test_a_step_that_is_locked_is_waited_for_without_haste(
    runtime: Runtime, database: Engine
) -> None:
    job_id, notes = add_job(database), Notes()
    queries: list[float] = []

    def count(*_: object) -> None:
        queries.append(time.monotonic())

    with ThreadPoolExecutor(1) as pool:
        with database.begin() as busy:
            busy.execute(text("SELECT FROM steps FOR UPDATE"))
            with seen_by(count):
                answered = pool.submit(answer, runtime, CPU_QUEUE, notes.work)
                wait_until(lambda: len(queries) >= 9)
        answered.result(60)
    assert notes.jobs == [job_id]
    between = queries[8] - queries[0]
    assert between > 2 * run._PAUSE_S


def test_without_postgres_nothing_is_claimed_and_the_log_says_so_in_one_line(
    settings: Settings, broker: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    notes = Notes()
    with relayed(settings, "database_url") as (cut_off, relay):
        relay.cut()
        cut = make_runtime(cut_off, "test")
        try:
            answer(cut, CPU_QUEUE, notes.work)
        finally:
            cut.close()
    lines = [each for each in caplog.records if each.name == run.__name__]
    assert [(each.levelname, each.exc_info) for each in lines] == [("WARNING", None)]
    assert "no step is claimed" in lines[0].getMessage()
    assert notes.jobs == []


def test_leases_are_kept_while_the_work_lasts_and_no_longer(
    runtime: Runtime, database: Engine
) -> None:
    add_job(database)
    held: list[int] = []

    def work(running: Runtime, leases: object) -> None:
        held.append(len(running.heartbeat._held))

    answer(runtime, CPU_QUEUE, work)
    assert held == [1]
    assert runtime.heartbeat._held == set()
