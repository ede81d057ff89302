"""Which deliveries are dispatched: tenants and endpoints in turn, and none before it is due."""

from uuid import UUID

import pytest
from celery import Celery
from jobstore import add_job, claim, claim_step, step_ids
from queryplans import explain, most_rows
from queues import add_worker, take_messages
from shared.queue.dispatch import _ORDER_OF_DELIVERIES, LANE_LIMIT, fill_queues
from sqlalchemy import Engine, text
from webhookstore import add_hook, cancel, make_due

from shared.infra.settings import Settings
from shared.infra.webhooks.attempt import Attempt
from shared.store import steps
from shared.store.queues import DELIVER_QUEUE
from shared.store.webhooks.attempts import complete_attempt
from shared.store.webhooks.endpoints import EventType

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
    assert take_messages(broker, DELIVER_QUEUE) == step_ids(database, job_id, "deliver")
    assert take_messages(broker, "prepare") == []


def test_of_one_endpoint_a_few_deliveries_are_in_flight_and_the_others_go_on(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    add_worker(database, DELIVER_QUEUE, slots=16)
    slow, _ = add_hook(database, URL, EventType.CANCELED)
    jobs = end_jobs(database, 20)
    fill_queues(database, broker, settings)
    assert in_flight(database) == [("default", slow)] * LANE_LIMIT
    claimed = claim_step(database, take_messages(broker, DELIVER_QUEUE)[0], owner="x", lease_s=30)
    assert claimed is not None
    other, _ = add_hook(database, URL, EventType.CANCELED)
    with database.begin() as connection:  # nothing more for the slow one
        connection.execute(text("UPDATE webhook_endpoints SET enabled = id = :id"), {"id": other})
    end_jobs(database, 2)
    fill_queues(database, broker, settings)
    assert sorted(in_flight(database)) == sorted(
        [("default", slow)] * LANE_LIMIT + [("default", other)] * 2
    )
    complete_attempt(database, claimed, Attempt(200, 1.0, None))
    fill_queues(database, broker, settings)
    assert len(in_flight(database)) == LANE_LIMIT + 2 + 1  # the one that is done, too
    assert len(jobs) == 20


def test_tenants_alternate_in_deliveries_too(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    add_worker(database, DELIVER_QUEUE, slots=6)
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
    add_worker(database, DELIVER_QUEUE, slots=4)
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
    complete_attempt(database, held, Attempt(500, 1.0, "no"))
    fill_queues(database, broker, settings)
    assert take_messages(broker, DELIVER_QUEUE) == []
    make_due(database, job_id)
    fill_queues(database, broker, settings)
    assert take_messages(broker, DELIVER_QUEUE) == [held.step_id]


def test_a_delivery_that_lost_its_worker_is_before_those_that_came_due_after_it(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    add_hook(database, URL)
    first, *_ = end_jobs(database, 1 + 2 * LANE_LIMIT)
    claimed = claim(database, first, "deliver", lease_s=0)
    steps.reap(database)
    fill_queues(database, broker, settings)
    assert take_messages(broker, DELIVER_QUEUE)[0] == claimed.step_id


@pytest.mark.parametrize("due", [True, False])
def test_a_backlog_of_one_endpoint_is_not_looked_through(database: Engine, due: bool) -> None:
    add_hook(database, URL)
    end_jobs(database, 100)
    with database.begin() as connection:
        delay = "0 s" if due else "1 hour"
        connection.execute(text(f"UPDATE steps SET run_at = now() + interval '{delay}'"))
    limits = {"queue": DELIVER_QUEUE, "room": 16, "lane_limit": LANE_LIMIT}
    assert most_rows(explain(database, str(_ORDER_OF_DELIVERIES), limits)) <= 2 * LANE_LIMIT
