"""Dispatch on real Postgres and Valkey: bounded, fair, and indifferent to a broker that is away."""

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from jobstore import add_job, claim, missing_table, prepare, step_ids
from processes import wait_until
from pydantic import SecretStr
from queryplans import explain, most_rows
from queues import add_worker, dispatched_jobs, take_messages
from shared.queue.dispatch import _FAIR_ORDER, Doorbell, fill_queues, forget_stale_dispatches
from sqlalchemy import Engine, text

from shared.infra.errors import StorageUnavailable
from shared.infra.settings import Settings
from shared.queue.broker import make_broker
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.queues import CPU_QUEUE, model_queue

MODEL_QUEUE = model_queue("oracle")
NOWHERE = SecretStr("redis://127.0.0.1:1/0")


def test_a_message_carries_the_step_id_alone(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    job_id = add_job(database)
    fill_queues(database, broker, settings)
    assert take_messages(broker, "prepare") == step_ids(database, job_id, "prepare")


def test_a_step_is_dispatched_once(database: Engine, broker: Celery, settings: Settings) -> None:
    add_job(database)
    fill_queues(database, broker, settings)
    fill_queues(database, broker, settings)
    assert len(take_messages(broker, "prepare")) == 1


def test_the_backlog_is_bounded_by_the_slots_of_live_workers(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    prepare(database, add_job(database), chunks=40)
    add_worker(database, MODEL_QUEUE, slots=7)
    fill_queues(database, broker, settings)
    fill_queues(database, broker, settings)
    assert len(take_messages(broker, MODEL_QUEUE)) == 7


def test_a_worker_that_still_loads_adds_nothing_to_the_backlog(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    prepare(database, add_job(database), chunks=40)
    add_worker(database, MODEL_QUEUE, slots=20, state="loading")
    fill_queues(database, broker, settings)
    assert len(take_messages(broker, MODEL_QUEUE)) < 20
    add_worker(database, MODEL_QUEUE, slots=20, state="ready")  # the same one, loaded
    fill_queues(database, broker, settings)
    assert len(dispatched_jobs(database)) == 20


def test_tenants_alternate_however_much_one_has_queued(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    add_worker(database, MODEL_QUEUE, slots=6)
    big, small = add_job(database, tenant="big"), add_job(database, tenant="small")
    prepare(database, big, chunks=50)
    prepare(database, small, chunks=3)
    fill_queues(database, broker, settings)
    jobs = dispatched_jobs(database)
    assert (jobs.count(big), jobs.count(small)) == (3, 3)


def test_work_in_progress_counts_as_a_tenants_turn(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    add_worker(database, MODEL_QUEUE, slots=6)
    big = add_job(database, tenant="big")
    prepare(database, big, chunks=50)
    for idx in range(4):
        claim(database, big, "transcribe", idx)
    small = add_job(database, tenant="small")
    prepare(database, small, chunks=9)
    fill_queues(database, broker, settings)
    jobs = dispatched_jobs(database)
    assert (jobs.count(big), jobs.count(small)) == (1, 5)


def test_a_short_job_does_not_wait_behind_a_long_one_of_the_same_tenant(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    add_worker(database, MODEL_QUEUE, slots=4)
    long, short = add_job(database), add_job(database)
    prepare(database, long, chunks=500)
    prepare(database, short, chunks=1)
    fill_queues(database, broker, settings)
    assert short in dispatched_jobs(database)


def test_an_absent_broker_takes_nothing_with_it(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    job_id = add_job(database)
    absent = make_broker(settings.model_copy(update={"broker_url": NOWHERE}))
    fill_queues(database, absent, settings)
    assert take_messages(broker, "prepare") == []
    fill_queues(database, broker, settings)
    assert take_messages(broker, "prepare") == step_ids(database, job_id, "prepare")


def test_a_backlog_of_jobs_is_not_looked_through(database: Engine) -> None:
    canceled, waiting = [[add_job(database) for _ in range(100)] for _ in range(2)]
    prepare(database, canceled[0], chunks=100)
    prepare(database, waiting[0], chunks=100)
    for job_id in canceled:
        cancel_job(database, "default", job_id, max_attempts=2)
    for queue in (CPU_QUEUE, MODEL_QUEUE):
        limits = {"queue": queue, "room": 4}
        assert most_rows(explain(database, str(_FAIR_ORDER), limits)) <= 8, queue
        with database.begin() as connection:
            chosen = [row.id for row in connection.execute(_FAIR_ORDER, limits)]
            jobs = connection.execute(
                text("SELECT job_id FROM steps WHERE id = ANY (:ids)"), {"ids": chosen}
            ).scalars()
            assert len(chosen) == 4
            assert {*jobs} <= {*waiting}


def test_of_a_long_job_no_more_steps_are_ranked_than_there_is_room_for(database: Engine) -> None:
    prepare(database, add_job(database), chunks=500)
    with database.begin() as connection:
        connection.execute(text("ANALYZE jobs, steps"))
        plan = connection.execute(
            text(f"EXPLAIN (ANALYZE, FORMAT JSON) {_FAIR_ORDER}"), {"queue": MODEL_QUEUE, "room": 4}
        ).scalar_one()[0]["Plan"]

    def rows_of_steps(node: dict[str, Any]) -> float:
        own = node["Actual Rows"] * node["Actual Loops"] if "steps" in str(node) else 0
        return max(own, *map(rows_of_steps, node.get("Plans", [])), 0)

    assert rows_of_steps(plan) == 4


LOSSES: dict[str, Callable[[Engine, steps.Claim], object]] = {
    "reaped": lambda engine, _: steps.reap(engine),
    "released": steps.release,
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_that_lost_its_worker_goes_before_what_its_tenant_has_not_begun(
    database: Engine, broker: Celery, settings: Settings, loss: str
) -> None:
    *_, youngest = [add_job(database) for _ in range(20)]
    claimed = claim(database, youngest, "prepare", lease_s=0)
    LOSSES[loss](database, claimed)
    fill_queues(database, broker, settings)
    assert take_messages(broker, "prepare")[0] == claimed.step_id


def test_tenants_alternate_also_when_one_has_lost_its_workers(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    add_worker(database, MODEL_QUEUE, slots=6)
    unlucky, other = add_job(database, tenant="a"), add_job(database, tenant="b")
    prepare(database, unlucky, chunks=9)
    prepare(database, other, chunks=9)
    for idx in range(9):
        claim(database, unlucky, "transcribe", idx, lease_s=0)
    steps.reap(database)
    fill_queues(database, broker, settings)
    jobs = dispatched_jobs(database)
    assert (jobs.count(unlucky), jobs.count(other)) == (3, 3)


def test_what_is_tried_again_after_an_error_takes_its_turn(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    *_, youngest = [add_job(database) for _ in range(20)]
    steps.release(database, claim(database, youngest, "prepare"))
    claimed = claim(database, youngest, "prepare")
    steps.retry(database, claimed, StorageUnavailable("away"), base_s=0)
    fill_queues(database, broker, settings)
    sent = take_messages(broker, "prepare")
    assert sent
    assert claimed.step_id not in sent


def test_the_doorbell_outlives_an_error_that_nobody_expected(
    database: Engine, broker: Celery, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = add_job(database)
    doorbell = Doorbell(database, broker, settings)
    with missing_table(database, "jobs"):
        doorbell.ring()
        wait_until(lambda: "unexpected error" in caplog.text)
    doorbell.ring()
    doorbell.close()
    assert take_messages(broker, "prepare") == step_ids(database, job_id, "prepare")


def test_a_locked_step_is_not_waited_for_and_goes_the_next_time(
    database: Engine, settings: Settings, broker: Celery
) -> None:
    locked, free = [step_ids(database, add_job(database), "prepare")[0] for _ in range(2)]
    with database.begin() as busy:
        busy.execute(text("SELECT 1 FROM steps WHERE id = :id FOR UPDATE"), {"id": locked})
        fill_queues(database, broker, settings)
        assert take_messages(broker, "prepare") == [free]
        assert forget_stale_dispatches(database, least_age_s=0) == 1
    fill_queues(database, broker, settings)
    assert sorted(take_messages(broker, "prepare")) == sorted([locked, free])
