"""Which deliveries are claimed: tenants and endpoints in turn, and none before it is due."""

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from harness.database.query_plans import buffers, explain
from harness.jobs.job_store import add_job, claim, column, step_ids
from harness.jobs.webhook_store import add_hook, cancel, deliveries, make_due
from harness.peers.receivers import Receiver, Reply
from harness.programs.workers import wait_until
from shared.infra.webhooks.attempt import Attempt
from shared.store import steps
from shared.store.queues import CPU_QUEUE, DELIVER_QUEUE, DELIVERY_SLOTS
from shared.store.states import DeliveryState, StepKind
from shared.store.steps import Claim, Taken
from shared.store.steps.fair_order import _CLAIM_DELIVERY, LANE_LIMIT
from shared.store.webhooks.attempts import complete_attempt
from shared.store.webhooks.endpoints import EventType, change_endpoint, delete_endpoint
from worker.process.runtime import Runtime
from worker.steps.deliver import deliver
from worker.steps.run import answer, one_by_one

URL = "https://receiver.example/hook"


def take(database: Engine) -> Taken:
    return steps.claim_next(database, DELIVER_QUEUE, owner="test", lease_s=30)


def claim_up_to(database: Engine, n: int) -> list[Claim]:
    return [claimed for _ in range(n) for claimed in take(database).claims]


def lanes(database: Engine, claims: list[Claim]) -> list[UUID]:
    return [UUID(str(column(database, claimed.step_id, "lane"))) for claimed in claims]


def end_jobs(database: Engine, n: int, tenant: str = "default") -> list[UUID]:
    jobs = [add_job(database, tenant=tenant) for _ in range(n)]
    for job_id in jobs:
        cancel(database, job_id, tenant)
    return jobs


def test_a_delivery_is_claimed_though_its_job_has_ended(database: Engine) -> None:
    add_hook(database, URL)
    (job_id,) = end_jobs(database, 1)
    assert steps.claim_next(database, CPU_QUEUE, owner="test", lease_s=30).claims == []
    (claimed,) = claim_up_to(database, 2)
    assert [claimed.step_id] == step_ids(database, job_id, "deliver")


def test_of_one_endpoint_a_few_deliveries_are_under_way_and_the_others_go_on(
    database: Engine,
) -> None:
    slow, _ = add_hook(database, URL, EventType.CANCELED)
    end_jobs(database, 20)
    held = claim_up_to(database, 20)
    assert lanes(database, held) == [slow] * LANE_LIMIT
    other, _ = add_hook(database, URL, EventType.CANCELED)
    with database.begin() as connection:  # nothing more for the slow one
        connection.execute(text("UPDATE webhook_endpoints SET enabled = id = :id"), {"id": other})
    end_jobs(database, 2)
    assert lanes(database, claim_up_to(database, 20)) == [other] * 2
    complete_attempt(database, held[0], Attempt(200, 1.0, None))
    assert lanes(database, claim_up_to(database, 20)) == [slow]


def test_who_has_claimed_a_delivery_is_to_look_for_what_the_limit_kept_back(
    database: Engine,
) -> None:
    add_hook(database, URL)
    end_jobs(database, LANE_LIMIT + 1)
    taken = [take(database) for _ in range(LANE_LIMIT + 1)]
    assert [each.more for each in taken] == [True] * LANE_LIMIT + [False]


def test_what_one_endpoint_is_to_be_told_is_sent_without_any_further_wake_up(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    """The last of the few that are under way at once goes on with what was kept back meanwhile."""
    receiver.reply(Reply(204, hang=True))
    end_jobs(database, 1)
    work = one_by_one({StepKind.DELIVER: deliver})
    with ThreadPoolExecutor(1) as pool:
        answered = pool.submit(answer, runtime, DELIVER_QUEUE, work)
        wait_until(lambda: receiver.requests)
        end_jobs(database, 3 * LANE_LIMIT)
        receiver.release()
        answered.result(60)
    assert {view.state for view in deliveries(database)} == {DeliveryState.DELIVERED}


def test_deliveries_claimed_at_once_are_no_more_than_an_endpoint_takes(database: Engine) -> None:
    slow, _ = add_hook(database, URL)
    end_jobs(database, 20)
    start = threading.Barrier(8)

    def work(_: int) -> list[Claim]:
        start.wait()
        found: list[Claim] = []
        for _ in range(20):
            found += take(database).claims
        return found

    with ThreadPoolExecutor(8) as pool:
        claimed = [each for found in pool.map(work, range(8)) for each in found]
    assert lanes(database, claimed) == [slow] * LANE_LIMIT
    assert len({each.step_id for each in claimed}) == LANE_LIMIT


def test_tenants_alternate_in_deliveries_too(database: Engine) -> None:
    big = {add_hook(database, URL, tenant="big")[0] for _ in range(3)}
    small, _ = add_hook(database, URL, tenant="small")
    end_jobs(database, 20, "big")
    end_jobs(database, 3, "small")
    found = lanes(database, claim_up_to(database, 6))
    assert (found.count(small), sum(lane in big for lane in found)) == (3, 3)


def test_endpoints_of_a_tenant_take_turns(database: Engine) -> None:
    first, _ = add_hook(database, URL)
    end_jobs(database, 10)
    second, _ = add_hook(database, URL)
    end_jobs(database, 2)
    found = lanes(database, claim_up_to(database, 4))
    assert sorted(found) == sorted([first, first, second, second])


def test_a_delivery_whose_next_attempt_is_not_due_waits(database: Engine) -> None:
    add_hook(database, URL)
    (job_id,) = end_jobs(database, 1)
    held = claim(database, job_id, "deliver")
    complete_attempt(database, held, Attempt(500, 1.0, "no"))
    assert take(database) == Taken([], more=False)
    make_due(database, job_id)
    assert [each.step_id for each in claim_up_to(database, 2)] == [held.step_id]


def test_a_delivery_that_lost_its_worker_is_before_those_that_came_due_after_it(
    database: Engine,
) -> None:
    add_hook(database, URL)
    end_jobs(database, 1 + 2 * LANE_LIMIT)
    (lost,) = steps.claim_next(database, DELIVER_QUEUE, owner="test", lease_s=0).claims
    steps.reap(database)
    assert [each.step_id for each in claim_up_to(database, 1)] == [lost.step_id]


def test_an_endpoint_that_is_locked_holds_up_no_other(database: Engine) -> None:
    busy, _ = add_hook(database, URL)
    free, _ = add_hook(database, URL)
    end_jobs(database, 1)
    with database.begin() as connection:
        connection.execute(
            text("SELECT FROM webhook_endpoints WHERE id = :id FOR UPDATE"), {"id": busy}
        )
        assert lanes(database, claim_up_to(database, 1)) == [free]
        taken = take(database)
        assert (taken.claims, taken.more) == ([], True)
    assert lanes(database, claim_up_to(database, 2)) == [busy]


def test_a_disabled_endpoints_deliveries_are_claimed_too_to_be_ended(database: Engine) -> None:
    hook, _ = add_hook(database, URL)
    end_jobs(database, 1)
    change_endpoint(database, "default", hook, enabled=False)
    assert lanes(database, claim_up_to(database, 1)) == [hook]


def test_the_deliveries_of_a_deleted_endpoint_are_claimed_once_to_be_ended(
    database: Engine, runtime: Runtime
) -> None:
    gone, _ = add_hook(database, URL)
    jobs = end_jobs(database, 3)
    delete_endpoint(database, "default", gone)
    kept, _ = add_hook(database, URL)
    end_jobs(database, 1)
    assert len(claim_up_to(database, 1)) == 1

    answer(runtime, DELIVER_QUEUE, one_by_one({StepKind.DELIVER: deliver}))

    assert take(database) == Taken([], more=False)
    states = [
        column(database, step, "state")
        for job_id in jobs
        for step in step_ids(database, job_id, "deliver")
    ]
    assert set(states) <= {"failed", "running"}
    assert kept != gone


def pages_read(database: Engine) -> int:
    """What a claim of one delivery reads."""
    parameters = {
        "queue": DELIVER_QUEUE,
        "lane_limit": LANE_LIMIT,
        "slots": DELIVERY_SLOTS,
        "limit": 1,
        "owner": "test",
        "lease_s": 30,
    }
    return buffers(explain(database, str(_CLAIM_DELIVERY), parameters))


@pytest.mark.parametrize("due", [True, False])
def test_a_backlog_of_one_endpoint_is_not_looked_through(database: Engine, due: bool) -> None:
    add_hook(database, URL)
    end_jobs(database, 50)
    few = pages_read(database)
    with database.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO steps (job_id, kind, idx, queue, tenant, rank, lane, max_attempts,
                                   run_at)
                SELECT job_id, kind, n, queue, tenant, rank, lane, max_attempts,
                       run_at + make_interval(hours => :hours)
                FROM steps, generate_series(1, 100) AS n
                WHERE kind = 'deliver' AND state = 'queued'
            """),
            {"hours": 0 if due else 1},
        )
    assert pages_read(database) < few + 20
