"""Dispatch on real Postgres and Valkey: bounded, fair, and indifferent to a broker that is away."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from jobstore import add_job, claim, missing_table, prepare, step_ids
from processes import wait_until
from pydantic import SecretStr
from queues import add_worker, take_messages
from sqlalchemy import Engine, text
from webhookstore import add_hook, cancel, make_due

from shared import steps
from shared.broker import make_broker
from shared.dispatch import (
    _FAIR_ORDER,
    _ORDER_OF_DELIVERIES,
    LANE_LIMIT,
    Doorbell,
    fill_queues,
    forget_stale_dispatches,
)
from shared.errors import StorageUnavailable
from shared.settings import Settings
from shared.steps import PREPARE_QUEUE
from shared.webhooks.attempts import Attempt
from shared.webhooks.endpoints import EventType

MODEL_QUEUE = steps.model_queue("oracle")
NOWHERE = SecretStr("redis://127.0.0.1:1/0")


@pytest.fixture
def broker(settings: Settings) -> Celery:
    app = make_broker(settings)
    with app.connection_for_write() as connection:
        connection.default_channel.client.flushdb()
    return app


def dispatched_jobs(database: Engine) -> list[UUID]:
    """The job of each dispatched, unclaimed chunk."""
    with database.begin() as connection:
        return list(
            connection.execute(
                text("""
                    SELECT job_id FROM steps
                    WHERE kind = 'transcribe' AND state = 'queued' AND dispatched_at IS NOT NULL
                """)
            ).scalars()
        )


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


def test_a_lost_message_is_sent_again_when_it_is_stale(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    add_job(database)
    fill_queues(database, broker, settings)
    [step_id] = take_messages(broker, "prepare")  # taken and lost
    assert forget_stale_dispatches(database, least_age_s=60) == 0
    assert forget_stale_dispatches(database, least_age_s=0) == 1
    fill_queues(database, broker, settings)
    assert take_messages(broker, "prepare") == [step_id]


def test_a_queue_whose_real_wait_is_long_is_not_filled_with_copies(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    add_job(database)
    fill_queues(database, broker, settings)
    claimed = steps.claim(database, take_messages(broker, "prepare")[0], owner="x", lease_s=30)
    assert claimed is not None
    with database.begin() as connection:
        connection.execute(text("UPDATE steps SET dispatched_at = now() - interval '100 s'"))
    add_job(database)
    fill_queues(database, broker, settings)
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE steps SET dispatched_at = now() - interval '150 s' WHERE state = 'queued'
            """)
        )
    assert forget_stale_dispatches(database, least_age_s=1) == 0
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE steps SET dispatched_at = now() - interval '250 s' WHERE state = 'queued'
            """)
        )
    assert forget_stale_dispatches(database, least_age_s=1) == 1


def test_the_few_that_waited_long_do_not_put_off_what_is_lost(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    def claim_after(wait_s: float) -> None:
        job_id = add_job(database)
        fill_queues(database, broker, settings)
        with database.begin() as connection:
            connection.execute(
                text("UPDATE steps SET dispatched_at = now() - :wait WHERE job_id = :id"),
                {"id": job_id, "wait": timedelta(seconds=wait_s)},
            )
        claim(database, job_id, "prepare")

    for wait_s in (100, 100, 5, 5, 5):
        claim_after(wait_s)
    lost = add_job(database)
    fill_queues(database, broker, settings)
    with database.begin() as connection:
        connection.execute(
            text("UPDATE steps SET dispatched_at = now() - interval '30 s' WHERE job_id = :id"),
            {"id": lost},
        )
    assert forget_stale_dispatches(database, least_age_s=1) == 1


def explain(database: Engine, query: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run a query on tables that seem large; return its plan."""
    with database.begin() as connection:
        connection.execute(text("ANALYZE jobs, steps"))
        for small in ("seqscan", "bitmapscan"):  # what is chosen for so few rows alone
            connection.execute(text(f"SET LOCAL enable_{small} = off"))
        plan: dict[str, Any] = connection.execute(
            text(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}"), parameters
        ).scalar_one()[0]["Plan"]
        return plan


def most_rows(plan: dict[str, Any]) -> float:
    """The most rows that any part of a query had to do with."""
    own = plan["Actual Rows"] * plan["Actual Loops"]
    return max(own, *map(most_rows, plan.get("Plans", [])), 0)


def test_a_backlog_of_jobs_is_not_looked_through(database: Engine) -> None:
    canceled, waiting = [[add_job(database) for _ in range(100)] for _ in range(2)]
    prepare(database, canceled[0], chunks=100)
    prepare(database, waiting[0], chunks=100)
    for job_id in canceled:
        steps.cancel_job(database, "default", job_id, max_attempts=2)
    for queue in (PREPARE_QUEUE, MODEL_QUEUE):
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


# --- deliveries: their jobs have ended ---

URL = "https://receiver.example/hook"


def in_flight(database: Engine) -> list[tuple[str, UUID]]:
    """The tenant and the endpoint of each delivery that was dispatched or claimed."""
    with database.begin() as connection:
        rows = connection.execute(
            text("""
                SELECT jobs.tenant, CAST(lane AS uuid) AS lane
                FROM steps JOIN jobs ON jobs.id = steps.job_id
                WHERE kind = 'deliver' AND dispatched_at IS NOT NULL
            """)
        )
        return [(row.tenant, row.lane) for row in rows]


def end_jobs(database: Engine, n: int, tenant: str = "default") -> list[UUID]:
    jobs = [add_job(database, tenant=tenant) for _ in range(n)]
    for job_id in jobs:
        cancel(database, job_id, tenant)
    return jobs


def test_a_delivery_is_dispatched_though_its_job_has_ended(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    add_hook(database, URL)
    (job_id,) = end_jobs(database, 1)
    fill_queues(database, broker, settings)
    fill_queues(database, broker, settings)
    assert take_messages(broker, steps.DELIVER_QUEUE) == step_ids(database, job_id, "deliver")
    assert take_messages(broker, "prepare") == []


def test_of_one_endpoint_a_few_deliveries_are_in_flight_and_the_others_go_on(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    add_worker(database, steps.DELIVER_QUEUE, slots=16)
    slow, _ = add_hook(database, URL, EventType.CANCELED)
    jobs = end_jobs(database, 20)
    fill_queues(database, broker, settings)
    assert in_flight(database) == [("default", slow)] * LANE_LIMIT
    claimed = steps.claim(
        database, take_messages(broker, steps.DELIVER_QUEUE)[0], owner="x", lease_s=30
    )
    assert claimed is not None
    other, _ = add_hook(database, URL, EventType.CANCELED)
    with database.begin() as connection:  # nothing more for the slow one
        connection.execute(text("UPDATE webhook_endpoints SET enabled = id = :id"), {"id": other})
    end_jobs(database, 2)
    fill_queues(database, broker, settings)
    assert sorted(in_flight(database)) == sorted(
        [("default", slow)] * LANE_LIMIT + [("default", other)] * 2
    )
    steps.complete_attempt(database, claimed, Attempt(200, 1.0, None))
    fill_queues(database, broker, settings)
    assert len(in_flight(database)) == LANE_LIMIT + 2 + 1  # the one that is done, too
    assert len(jobs) == 20


def test_tenants_alternate_in_deliveries_too(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    add_worker(database, steps.DELIVER_QUEUE, slots=6)
    for _ in range(3):
        add_hook(database, URL, tenant="big")
    add_hook(database, URL, tenant="small")
    end_jobs(database, 20, "big")
    end_jobs(database, 3, "small")
    fill_queues(database, broker, settings)
    tenants = [tenant for tenant, _ in in_flight(database)]
    assert (tenants.count("big"), tenants.count("small")) == (3, 3)


def test_endpoints_of_a_tenant_take_turns(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    add_worker(database, steps.DELIVER_QUEUE, slots=4)
    first, _ = add_hook(database, URL)
    end_jobs(database, 10)
    second, _ = add_hook(database, URL)
    end_jobs(database, 2)
    fill_queues(database, broker, settings)
    assert sorted(lane for _, lane in in_flight(database)) == sorted([first, first, second, second])


def test_a_delivery_whose_next_attempt_is_not_due_waits(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    add_hook(database, URL)
    (job_id,) = end_jobs(database, 1)
    held = claim(database, job_id, "deliver")
    steps.complete_attempt(database, held, Attempt(500, 1.0, "no"))
    fill_queues(database, broker, settings)
    assert take_messages(broker, steps.DELIVER_QUEUE) == []
    make_due(database, job_id)
    fill_queues(database, broker, settings)
    assert take_messages(broker, steps.DELIVER_QUEUE) == [held.step_id]


def test_a_delivery_that_lost_its_worker_is_before_those_that_came_due_after_it(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    add_hook(database, URL)
    first, *_ = end_jobs(database, 1 + 2 * LANE_LIMIT)
    claimed = claim(database, first, "deliver", lease_s=0)
    steps.reap(database)
    fill_queues(database, broker, settings)
    assert take_messages(broker, steps.DELIVER_QUEUE)[0] == claimed.step_id


@pytest.mark.parametrize("due", [True, False])
def test_a_backlog_of_one_endpoint_is_not_looked_through(database: Engine, due: bool) -> None:
    add_hook(database, URL)
    end_jobs(database, 100)
    with database.begin() as connection:
        delay = "0 s" if due else "1 hour"
        connection.execute(text(f"UPDATE steps SET run_at = now() + interval '{delay}'"))
    limits = {"queue": steps.DELIVER_QUEUE, "room": 16, "lane_limit": LANE_LIMIT}
    assert most_rows(explain(database, str(_ORDER_OF_DELIVERIES), limits)) <= 2 * LANE_LIMIT


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
