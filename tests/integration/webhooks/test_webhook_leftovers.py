"""Of webhooks nothing stays for good: endpoints of jobs' own URLs, and tests, go in their time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from harness.database.interleaving import interleave, waiting_sessions
from harness.jobs.webhook_store import (
    SECRET,
    TENANT,
    add_hook,
    cancel,
    create,
    deliveries,
    ended_job,
    events,
    only,
)
from harness.programs.workers import wait_until
from shared.infra.webhooks.attempt import Attempt
from shared.store.jobs.delete import delete_job
from shared.store.retention import KEEP_TESTS_S, expire_jobs, expire_test_events
from shared.store.webhooks.deliveries import record_test
from shared.store.webhooks.endpoints import JobWebhook, delete_endpoint
from shared.store.webhooks.outgoing import make_test
from worker.process.runtime import Runtime
from worker.upkeep.retention import tidy

URL = "https://receiver.example/hook"
DAY_S = 86_400.0


# --- the endpoints of jobs' own URLs ---


def add_job_with_url(database: Engine) -> UUID:
    return create(database, webhook=JobWebhook(URL, SECRET))


def ended_job_with_url(database: Engine) -> UUID:
    """A job with a URL of its own that has ended, so that a delivery to it is pending."""
    job_id = add_job_with_url(database)
    cancel(database, job_id)
    return job_id


def delete(database: Engine, job_id: UUID) -> None:
    delete_job(database, TENANT, job_id, max_attempts=2)


def expire(database: Engine, job_id: UUID) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE webhook_deliveries SET state = 'delivered'"))
        connection.execute(
            text("UPDATE jobs SET finished_at = now() - interval '2 d' WHERE id = :id"),
            {"id": job_id},
        )
    assert expire_jobs(database, keep_s=DAY_S, max_attempts=2, limit=10) == 1


def endpoints(database: Engine) -> Sequence[UUID]:
    with database.begin() as connection:
        return connection.execute(text("SELECT id FROM webhook_endpoints")).scalars().all()


@pytest.mark.parametrize("remove", [delete, expire])
def test_the_endpoint_of_a_url_goes_with_the_last_job_that_names_it(
    database: Engine, remove: Callable[[Engine, UUID], None]
) -> None:
    listed, _ = add_hook(database, URL)
    first, second = ended_job_with_url(database), ended_job_with_url(database)
    (unlisted,) = set(endpoints(database)) - {listed}
    remove(database, first)
    assert set(endpoints(database)) == {listed, unlisted}
    assert {view.job_id for view in deliveries(database)} == {second}
    remove(database, second)
    assert endpoints(database) == [listed]


def test_a_job_that_names_the_url_while_the_last_one_goes_keeps_the_endpoint(
    database: Engine,
) -> None:
    old = ended_job_with_url(database)
    kept = endpoints(database)
    created, deleted = interleave(
        database, lambda: add_job_with_url(database), lambda: delete(database, old)
    )
    deleted.result()
    new = created.result()
    assert isinstance(new, UUID)
    assert endpoints(database) == kept
    cancel(database, new)
    assert only(database).endpoint_id == kept[0]


def test_a_job_that_names_the_url_just_after_the_last_one_went_makes_the_endpoint_anew(
    database: Engine,
) -> None:
    old = ended_job_with_url(database)
    gone = endpoints(database)
    deleted, created = interleave(
        database, lambda: delete(database, old), lambda: add_job_with_url(database)
    )
    deleted.result()
    new = created.result()
    assert isinstance(new, UUID)
    (made,) = endpoints(database)
    assert made not in gone
    cancel(database, new)
    assert only(database).endpoint_id == made


def test_of_the_last_two_jobs_that_go_at_once_the_second_takes_the_endpoint_along(
    database: Engine,
) -> None:
    jobs = [ended_job_with_url(database) for _ in range(2)]
    for deleted in interleave(
        database, lambda: delete(database, jobs[0]), lambda: delete(database, jobs[1])
    ):
        deleted.result()
    assert endpoints(database) == []


def test_a_job_that_goes_locks_its_endpoint_before_its_deliveries(database: Engine) -> None:
    job_id = ended_job_with_url(database)
    with ThreadPoolExecutor(1) as pool:
        with database.begin() as connection:  # as an attempt that disables the endpoint
            connection.execute(text("SELECT FROM webhook_endpoints FOR NO KEY UPDATE"))
            deleted = pool.submit(delete, database, job_id)
            wait_until(lambda: waiting_sessions(database) == 1)
            connection.execute(text("SELECT FROM webhook_deliveries FOR NO KEY UPDATE NOWAIT"))
        deleted.result()
    assert endpoints(database) == []


# --- test events ---


def record_a_test(database: Engine, endpoint_id: UUID, *, days_ago: float = 0) -> UUID:
    """Record a test of an endpoint; return the id of its delivery."""
    outgoing = make_test(database, TENANT, endpoint_id)
    attempt = Attempt(status_code=204, latency_ms=1.0, error=None)
    delivery_id = record_test(database, TENANT, endpoint_id, outgoing, attempt)
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE webhook_events SET created_at = now() - make_interval(secs => :age_s)
                WHERE id = :id
            """),
            {"id": outgoing.event_id, "age_s": days_ago * DAY_S},
        )
    return delivery_id


def expire_tests(database: Engine, keep_s: float = DAY_S, limit: int = 100) -> int:
    return expire_test_events(database, keep_s=keep_s, limit=limit)


def left(database: Engine) -> dict[str, int]:
    """How many events, deliveries and attempts there are."""
    with database.begin() as connection:
        return {
            table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in ("webhook_events", "webhook_deliveries", "webhook_attempts")
        }


def test_a_test_goes_when_its_time_is_up_with_its_delivery_and_attempt(database: Engine) -> None:
    hook, _ = add_hook(database, URL)
    record_a_test(database, hook, days_ago=2)
    young = record_a_test(database, hook)
    assert expire_tests(database) == 1
    assert only(database).id == young
    assert left(database) == dict.fromkeys(left(database), 1)
    assert expire_tests(database) == 0


def test_the_events_of_jobs_are_not_taken_for_tests(database: Engine) -> None:
    add_hook(database, URL)
    job_id = ended_job(database)
    with database.begin() as connection:
        connection.execute(text("UPDATE webhook_events SET created_at = '-infinity'"))
    assert expire_tests(database, keep_s=0) == 0
    assert len(events(database, job_id)) == 1


@pytest.mark.parametrize("keep_s", [KEEP_TESTS_S, 1e300, float("inf")])
def test_where_jobs_are_kept_for_ever_tests_are_kept_for_a_month(
    database: Engine, keep_s: float
) -> None:
    hook, _ = add_hook(database, URL)
    record_a_test(database, hook, days_ago=31)
    young = record_a_test(database, hook, days_ago=29)
    assert expire_tests(database, keep_s) == 1
    assert only(database).id == young


def test_a_batch_of_tests_is_bounded_and_passes_over_what_is_locked(database: Engine) -> None:
    hook, _ = add_hook(database, URL)
    tests = [record_a_test(database, hook, days_ago=9 - number) for number in range(4)]
    with database.begin() as connection:
        connection.execute(
            text("SELECT FROM webhook_deliveries WHERE id = :id FOR UPDATE"), {"id": tests[0]}
        )
        assert expire_tests(database, limit=2) == 2
        assert {view.id for view in deliveries(database)} == {tests[0], tests[3]}
    assert expire_tests(database) == 2


def test_the_tidier_removes_tests_whose_time_is_up(database: Engine, runtime: Runtime) -> None:
    hook, _ = add_hook(database, URL)
    record_a_test(database, hook, days_ago=31)
    tidy(runtime)
    assert deliveries(database) == []


def test_a_webhook_that_is_deleted_takes_its_tests_along(database: Engine) -> None:
    hook, _ = add_hook(database, URL)
    other, _ = add_hook(database, URL)
    job_id = ended_job(database)
    record_a_test(database, hook)
    kept = record_a_test(database, other)
    delete_endpoint(database, TENANT, hook)
    assert left(database) == {
        "webhook_events": 2,
        "webhook_deliveries": 2,
        "webhook_attempts": 1,
    }
    assert {(view.job_id, view.endpoint_id) for view in deliveries(database)} == {
        (job_id, other),
        (None, other),
    }
    assert kept in {view.id for view in deliveries(database)}


def test_a_test_recorded_while_its_webhook_is_deleted_goes_with_it(database: Engine) -> None:
    hook, _ = add_hook(database, URL)
    with ThreadPoolExecutor(2) as pool:
        with database.begin() as gate:
            gate.execute(text("LOCK TABLE webhook_attempts IN SHARE MODE"))
            tested = pool.submit(
                record_test,
                database,
                TENANT,
                hook,
                make_test(database, TENANT, hook),
                Attempt(status_code=204, latency_ms=1.0, error=None),
            )
            wait_until(lambda: waiting_sessions(database) == 1)
            deleted = pool.submit(delete_endpoint, database, TENANT, hook)
            wait_until(lambda: waiting_sessions(database) == 2)
        tested.result()
        deleted.result()
    assert left(database) == dict.fromkeys(left(database), 0)
