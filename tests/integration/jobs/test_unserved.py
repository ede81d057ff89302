"""Jobs for which no worker comes end, in time and for a reason."""

from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from harness.database.query_plans import explain, most_rows
from harness.jobs.job_store import (
    CHUNK,
    add_job,
    claim,
    claim_step,
    column,
    new_job,
    prepare,
    step_ids,
    transcribe,
)
from harness.jobs.registry import enter_worker
from harness.jobs.webhook_store import TENANT, add_hook
from shared.infra.settings import Settings
from shared.store import steps
from shared.store.jobs.create import create_job
from shared.store.jobs.read import JobView, get_job
from shared.store.jobs.retry import retry_job
from shared.store.jobs.unserved import GRACE_S, UNSERVED_JOBS, UNSERVED_SPEAKERS, fail_unserved
from shared.store.queues import LARGE_BYTES
from shared.store.steps import NewStep
from shared.store.workers import forget_dead_workers, withdraw
from worker.process.runtime import make_runtime
from worker.upkeep.sweep import sweep

DAY_S = 86_400.0
LIVE_S = 30.0


@pytest.fixture(autouse=True)
def sweeper(database: Engine) -> None:
    """One that has swept for longer than its time of grace."""
    enter_worker(database, "beat", started_s_ago=GRACE_S + 1)


def wait(database: Engine, job_id: UUID, waited_s: float) -> None:
    """Have a job's steps been due for so long."""
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE steps SET run_at = clock_timestamp() - make_interval(secs => :waited_s)
                WHERE job_id = :id AND run_at < 'infinity'
            """),
            {"id": job_id, "waited_s": waited_s},
        )


def give_up(database: Engine, wait_s: float = DAY_S, limit: int = 500) -> int:
    return fail_unserved(database, wait_s=wait_s, live_s=LIVE_S, limit=limit)


def view(database: Engine, job_id: UUID) -> JobView:
    return get_job(database, TENANT, job_id)


def waiting_for_its_model(database: Engine) -> UUID:
    """A job whose chunks have been due for longer than a day."""
    job_id = add_job(database)
    prepare(database, job_id, chunks=2)
    wait(database, job_id, DAY_S + 1)
    return job_id


def test_a_job_whose_model_has_no_worker_for_too_long_fails_and_says_which(
    database: Engine,
) -> None:
    enter_worker(database, "cpu")
    job_id = waiting_for_its_model(database)
    fresh = add_job(database)
    prepare(database, fresh, chunks=1)
    wait(database, fresh, DAY_S - 60)

    assert give_up(database) == 1

    job = view(database, job_id)
    assert (job.state, job.error_code) == ("failed", "no_worker")
    assert "no worker for model 'oracle' has been there for 24 hours" in str(job.error_detail)
    assert job.finished_at is not None
    assert view(database, fresh).state == "running"
    assert give_up(database) == 0


@pytest.mark.parametrize("kind", ["prepare", "large", "finish", "detect"])
def test_every_kind_of_step_waits_for_so_long_and_no_longer(database: Engine, kind: str) -> None:
    large = LARGE_BYTES if kind == "large" else 1
    job_id = add_job(database, source_bytes=large)
    if kind == "finish":
        prepare(database, job_id, chunks=1)
        transcribe(database, claim(database, job_id, "transcribe"))
    if kind == "detect":
        preparing = claim(database, job_id, "prepare")
        steps.add_chunks(database, preparing, [NewStep(0, CHUNK)], max_attempts=3, hold=True)
        steps.add_detect(database, preparing, [CHUNK], max_attempts=3)
    wait(database, job_id, DAY_S - 60)
    assert give_up(database) == 0
    wait(database, job_id, DAY_S + 1)
    assert give_up(database) == 1
    job = view(database, job_id)
    who = "worker for model 'oracle'" if kind == "detect" else "CPU worker"
    assert (job.state, job.error_code) == ("failed", "no_worker")
    assert f"no {who} has been there" in str(job.error_detail)


@pytest.mark.parametrize(
    ("seen_s_ago", "gone"),
    [(0, False), (DAY_S - 60, False), (DAY_S - 60, True), (0, True)],
)
def test_the_time_counts_from_when_the_last_worker_was_seen(
    database: Engine, seen_s_ago: float, gone: bool
) -> None:
    worker = enter_worker(database, model="oracle", seen_s_ago=seen_s_ago)
    if gone and seen_s_ago:
        forget_dead_workers(database, silent_s=300)
    elif gone:
        withdraw(database, worker)
    waiting_for_its_model(database)
    assert give_up(database) == 0
    enter_worker(database, model="oracle", seen_s_ago=DAY_S + 1)
    with database.begin() as connection:
        connection.execute(
            text("UPDATE served_queues SET last_served_at = last_served_at - interval '1 day'")
        )
    assert give_up(database) == 1


def test_a_worker_that_is_loading_is_waited_for(database: Engine) -> None:
    job_id = waiting_for_its_model(database)
    enter_worker(database, model="oracle", state="loading")
    assert give_up(database) == 0
    enter_worker(database, model="oracle", state="loading", seen_s_ago=LIVE_S + 1)  # it died
    assert give_up(database) == 1
    assert view(database, job_id).error_code == "no_worker"


def test_after_a_night_in_which_all_was_off_the_workers_have_time_to_come(
    database: Engine,
) -> None:
    waiting_for_its_model(database)
    enter_worker(database, "beat", started_s_ago=GRACE_S - 60)
    assert give_up(database) == 0
    enter_worker(database, "beat", started_s_ago=GRACE_S + 1)
    assert give_up(database) == 1


def test_who_waits_for_ever_is_never_given_up(database: Engine) -> None:
    waiting_for_its_model(database)
    assert give_up(database, wait_s=float("inf")) == 0


def test_equal_jobs_fail_with_it_and_webhooks_tell_of_both(database: Engine) -> None:
    hook, _ = add_hook(database, "http://127.0.0.1:9/hook")
    first, second = new_job(fingerprint="same"), new_job(fingerprint="same")
    for job in (first, second):
        create_job(database, job, max_attempts=3)
    wait(database, first.id, DAY_S + 1)

    assert give_up(database) == 1

    assert [view(database, job.id).error_code for job in (first, second)] == 2 * ["no_worker"]
    with database.begin() as connection:
        told = connection.execute(
            text("""
                SELECT job_id, type FROM webhook_events JOIN webhook_deliveries
                ON event_id = webhook_events.id WHERE endpoint_id = :hook ORDER BY job_id
            """),
            {"hook": hook},
        ).all()
    assert [tuple(row) for row in told] == [(job.id, "job.failed") for job in (first, second)]


def test_a_job_given_up_can_be_retried_and_waits_anew(database: Engine) -> None:
    job_id = waiting_for_its_model(database)
    give_up(database)
    retry_job(database, TENANT, job_id, max_attempts=3)
    assert give_up(database) == 0
    enter_worker(database, model="oracle")
    transcribe(database, claim(database, job_id, "transcribe", 0))
    transcribe(database, claim(database, job_id, "transcribe", 1))
    assert view(database, job_id).stage == "finishing"


def test_its_steps_are_claimed_no_more_and_deliveries_wait_on(database: Engine) -> None:
    add_hook(database, "http://127.0.0.1:9/hook")
    job_id = waiting_for_its_model(database)
    give_up(database)
    (first, _) = step_ids(database, job_id, "transcribe")
    assert claim_step(database, first, owner="test", lease_s=30) is None
    (delivery,) = step_ids(database, job_id, "deliver")
    with database.begin() as connection:
        connection.execute(text("UPDATE steps SET run_at = run_at - interval '2 days'"))
    assert give_up(database) == 0
    assert column(database, delivery, "state") == "queued"


def test_a_step_that_is_being_worked_on_does_not_wait(database: Engine) -> None:
    job_id = add_job(database)
    claim(database, job_id, "prepare")
    wait(database, job_id, DAY_S + 1)
    assert give_up(database) == 0


def test_jobs_are_given_up_in_batches(database: Engine) -> None:
    for _ in range(5):
        wait(database, add_job(database), DAY_S + 1)
    assert [give_up(database, limit=2) for _ in range(4)] == [2, 2, 1, 0]


def test_the_sweep_gives_up_by_the_setting(database: Engine, settings: Settings) -> None:
    job_id = add_job(database)
    wait(database, job_id, 120)
    runtime = make_runtime(settings.model_copy(update={"worker_wait_s": 60.0}), "test")
    try:
        sweep(runtime)
    finally:
        runtime.close()
    assert view(database, job_id).error_code == "no_worker"


def test_jobs_that_wait_for_their_turn_are_not_looked_at(database: Engine) -> None:
    """Thousands that are queued for a model that is served cost the sweep nothing."""
    enter_worker(database, "cpu")
    for _ in range(3):
        wait(database, add_job(database), 60)
    with database.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO steps (job_id, kind, idx, queue, tenant, rank, max_attempts, run_at)
                SELECT jobs.id, 'transcribe', n, 'model.oracle', tenant, 0, 3,
                       now() - interval '1 hour'
                FROM jobs CROSS JOIN generate_series(1, 1000) AS n
            """)
        )
    parameters = {"wait_s": DAY_S, "live_s": LIVE_S, "limit": 500}
    plan = explain(database, UNSERVED_JOBS, parameters)
    assert most_rows(plan) < 50
    assert "ix_steps_due" in str(plan)
    plan = explain(database, UNSERVED_SPEAKERS, parameters)
    assert most_rows(plan) < 50
