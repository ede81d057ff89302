"""Unexpected errors: how often they are met, and how a worker that meets nothing else says so."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from celery import Celery
from sqlalchemy import Engine, text

from cli.embedded.ports import free_ports
from harness.jobs.job_store import add_job, claim, column, expire, step_ids
from harness.jobs.step_runner import run_claimed
from harness.programs.workers import Fleet, fleet, wait_until
from harness.servers import patient
from harness.servers.api_server import api
from shared.infra.errors import StorageUnavailable, TransientError
from shared.infra.settings import Settings
from shared.queue.wakeups import Wakeups
from shared.store import steps
from shared.store.jobs.read import get_job
from shared.store.jobs.retry import retry_job
from shared.store.queues import CPU_QUEUE
from shared.store.workers import WorkerEntry, announce, child_id, live_workers
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime, make_runtime
from worker.steps.run import Handler

CPU = "cpu@host-1-ab"
ENTRY = WorkerEntry(
    id=CPU,
    role="cpu",
    model=None,
    queues=[CPU_QUEUE],
    slots=2,
    state="ready",
    device="cpu",
    dtype=None,
    version="test",
    load_s=None,
    warm_up_s=None,
)


@pytest.fixture
def child(settings: Settings, database: Engine) -> Iterator[Callable[[str], Runtime]]:
    """A maker of a CPU worker's pool children, each with a runtime of its own."""
    announce(database, ENTRY)
    made = []

    def make(number: str) -> Runtime:
        made.append(make_runtime(settings.model_copy(update={"retry_base_s": 0.0}), number))
        return made[-1]

    yield lambda number: make(child_id(CPU, number))
    for runtime in made:
        runtime.close()


@pytest.fixture
def runtime(child: Callable[[str], Runtime]) -> Runtime:
    return child("2-cd")


def one_way(_runtime: Runtime, lease: Lease) -> None:
    raise TypeError(f"attempt {lease.claim.attempt} has words of its own")


def another_way(_runtime: Runtime, _lease: Lease) -> None:
    raise TypeError("the same class, elsewhere")


def another_class(_runtime: Runtime, _lease: Lease) -> None:
    raise KeyError("elsewhere")


def passing(_runtime: Runtime, _lease: Lease) -> None:
    raise TransientError("not now")


def store_away(_runtime: Runtime, _lease: Lease) -> None:
    raise StorageUnavailable("the object store cannot be reached")


def succeed(runtime: Runtime, lease: Lease) -> None:
    steps.complete_prepare(
        runtime.database, lease.claim, duration_s=1.0, metrics={}, max_attempts=3
    )


def attempt(runtime: Runtime, job_id: UUID, handler: Handler) -> None:
    """One attempt at the job's ``prepare`` step, due now."""
    (step,) = step_ids(runtime.database, job_id, "prepare")
    with runtime.database.begin() as connection:
        connection.execute(text("UPDATE steps SET run_at = now() WHERE id = :id"), {"id": step})
    run_claimed(runtime, step, handler)


def states(runtime: Runtime, job_id: UUID, *handlers: Handler) -> list[str]:
    """The job's state after each of these attempts."""
    found = []
    for handler in handlers:
        attempt(runtime, job_id, handler)
        found.append(str(get_job(runtime.database, "default", job_id).state))
    return found


def test_a_bug_met_twice_in_the_same_way_fails_the_job_at_once(
    database: Engine, runtime: Runtime
) -> None:
    job_id = add_job(database, max_attempts=5)
    assert states(runtime, job_id, one_way, one_way) == ["running", "failed"]
    job = get_job(database, "default", job_id)
    (step,) = step_ids(database, job_id, "prepare")
    assert job.error_code == "internal_error"
    assert job.error_detail == (
        f"prepare failed twice in the same way: an unexpected error (TypeError) at step {step}; "
        f"see the log of worker {CPU}"
    )


@pytest.mark.parametrize("other", [another_way, another_class, passing])
def test_bugs_that_differ_or_do_not_follow_each_other_take_all_attempts(
    database: Engine, runtime: Runtime, other: Handler
) -> None:
    job_id = add_job(database, max_attempts=4)
    assert states(runtime, job_id, one_way, other, one_way, other) == [*3 * ["running"], "failed"]
    assert "(after 4 attempts)" in (get_job(database, "default", job_id).error_detail or "")


def test_an_outage_between_two_equal_bugs_is_no_attempt(database: Engine, runtime: Runtime) -> None:
    job_id = add_job(database)
    assert states(runtime, job_id, one_way, store_away, one_way) == ["running", "running", "failed"]


def test_a_death_between_two_equal_bugs_is_an_attempt(database: Engine, runtime: Runtime) -> None:
    job_id = add_job(database, max_attempts=5)
    attempt(runtime, job_id, one_way)
    expire(database, claim(database, job_id, "prepare"))
    assert steps.reap(database) == 1
    assert states(runtime, job_id, one_way, one_way) == ["running", "failed"]


def test_a_retried_job_meets_its_bug_twice_again(database: Engine, runtime: Runtime) -> None:
    job_id = add_job(database)
    states(runtime, job_id, one_way, one_way)
    retry_job(database, "default", job_id, max_attempts=3)
    assert states(runtime, job_id, one_way, one_way) == ["running", "failed"]


def test_an_error_names_the_log_where_the_worker_knows_it(
    database: Engine, settings: Settings
) -> None:
    runtime = make_runtime(settings.model_copy(update={"log_name": "worker-cpu.log"}), CPU)
    job_id = add_job(database)
    try:
        attempt(runtime, job_id, one_way)
    finally:
        runtime.close()
    (step,) = step_ids(database, job_id, "prepare")
    with database.begin() as connection:
        told = connection.execute(
            text("SELECT detail FROM job_events WHERE step_id = :id"), {"id": step}
        ).scalar_one()
    assert told == (
        f"internal_error: an unexpected error (TypeError) at step {step}; see worker-cpu.log"
    )


def failing(database: Engine) -> list[str]:
    (worker,) = live_workers(database, live_s=30)
    return list(worker.failing)


def critical(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.CRITICAL]


def test_a_worker_whose_every_step_fails_in_one_way_says_so_until_one_succeeds(
    database: Engine, child: Callable[[str], Runtime], caplog: pytest.LogCaptureFixture
) -> None:
    one, other = child("2-cd"), child("3-ef")
    attempt(one, add_job(database), one_way)
    assert failing(database) == []
    attempt(other, add_job(database), one_way)
    reason = (
        f"every prepare step fails here in the same way: TypeError; see the log of worker {CPU}"
    )
    assert failing(database) == [reason]
    assert announce(database, ENTRY).failing == [reason]
    attempt(other, add_job(database), one_way)
    assert critical(caplog) == [f"worker {CPU}: {reason}"]

    attempt(one, add_job(database), succeed)
    assert failing(database) == []
    for _ in range(3):
        attempt(one, add_job(database), one_way)
        attempt(other, add_job(database), one_way)
    assert failing(database) == []
    assert len(critical(caplog)) == 1


def test_a_worker_that_meets_different_bugs_does_not_say_that_all_steps_fail_alike(
    database: Engine, runtime: Runtime
) -> None:
    for handler in (one_way, another_way, one_way, another_class):
        attempt(runtime, add_job(database), handler)
    assert failing(database) == []


@pytest.fixture
def workers(settings: Settings, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet whose workers answer on a port of their own; one at a time."""
    update = {"health_port": free_ports(1)[0], "heartbeat_s": 0.2, "retry_base_s": 0.0}
    with fleet(settings.model_copy(update=update), tmp_path) as started:
        yield started


def test_a_pool_whose_children_all_fail_is_not_ready_and_everybody_can_see_why(
    settings: Settings, database: Engine, broker: Celery, workers: Fleet, tmp_path: Path
) -> None:
    bug = tmp_path / "bug"
    bug.touch()
    worker = workers.start("cpu", "--concurrency", "2", FAULTY_BUG=str(bug))
    address = f"http://127.0.0.1:{workers.settings.health_port}/health/ready"

    def readiness() -> httpx.Response | None:
        assert worker.process.poll() is None, worker.log
        try:
            return patient.get(address)
        except httpx.TransportError:
            return None

    wait_until(lambda: (said := readiness()) is not None and said.status_code == 200)
    job_id = add_job(database)
    wakeups = Wakeups(database, broker, workers.settings)

    def has_failed() -> bool:
        wakeups.top_up()  # as the sweep does, when the second attempt is due
        return get_job(database, "default", job_id).state == "failed"

    with api(settings) as client:
        wait_until(has_failed)
        wakeups.close()
        said = wait_until(lambda: (now := readiness()) and now.status_code == 503 and now)
        assert said.json()["status"] == "failing"
        reason = said.json()["reason"]
        assert reason.startswith("every prepare step fails here in the same way: TypeError; see ")
        (listed,) = client.get("/workers").json()["workers"]
        assert listed["failing"] == [reason]
        (shown,) = client.get("/health/status").json()["workers"]
        assert shown["failing"] == [reason]
    (step,) = step_ids(database, job_id, "prepare")
    assert column(database, step, "attempt") == 2
    assert worker.log.count("CRITICAL") == 1
    assert reason in worker.log
    assert f"step {step} (prepare): unexpected error" in worker.log
