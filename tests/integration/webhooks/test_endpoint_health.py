"""Endpoints that are given up, disabled or deleted, and what becomes of what is pending."""

import threading
import time
from uuid import UUID

from sqlalchemy import Engine, text

from harness.jobs.job_store import column
from harness.jobs.webhook_store import (
    TENANT,
    attempt,
    deliver_steps,
    deliveries,
    ended_job,
    endpoint,
    only,
)
from harness.peers.receivers import Receiver, Reply
from shared.infra.errors import DeliveryVoid
from shared.store.queues import DELIVER_QUEUE
from shared.store.states import DeliveryState, StepKind
from shared.store.webhooks.attempts import FAILING_DAYS
from shared.store.webhooks.endpoints import change_endpoint, delete_endpoint
from worker.process.runtime import Runtime
from worker.steps.deliver import deliver
from worker.steps.run import answer, one_by_one

PENDING, DELIVERED, FAILED = DeliveryState


def is_void(database: Engine, job_id: UUID) -> bool:
    """Whether a worker has found that the only delivery of the job is not to be made."""
    (step,) = deliver_steps(database, job_id, state="failed")
    return column(database, step, "error_code") == DeliveryVoid.code


def test_410_disables_the_endpoint_and_fails_what_is_pending(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    first, second = ended_job(database), ended_job(database)
    receiver.reply(Reply(410))
    attempt(runtime, first)
    found = endpoint(database, hook[0])
    assert (found.enabled, found.disabled_reason) == (
        False,
        "the receiver answered 410: it is gone",
    )
    for job_id in (first, second):
        assert only(database, job_id).state == FAILED
        assert only(database, job_id).error == found.disabled_reason
    attempt(runtime, second)
    assert len(receiver.requests) == 1
    assert is_void(database, second)
    ended_job(database)
    assert len(deliveries(database)) == 2


def test_an_endpoint_that_failed_for_days_is_disabled(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    receiver.reply(Reply(500))
    job_id = ended_job(database)
    attempt(runtime, job_id)
    assert endpoint(database, hook[0]).failing_since is not None
    since(database, days=FAILING_DAYS, minutes=-1)
    attempt(runtime, job_id)
    assert endpoint(database, hook[0]).enabled
    since(database, days=FAILING_DAYS, minutes=1)
    attempt(runtime, job_id)
    found = endpoint(database, hook[0])
    assert not found.enabled
    assert found.disabled_reason == "nothing could be delivered to it for 5 days"
    assert only(database).state == FAILED


def test_a_success_in_between_keeps_an_endpoint_enabled(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    receiver.reply(Reply(500), Reply(200), Reply(500))
    job_id = ended_job(database)
    attempt(runtime, job_id)
    since(database, days=FAILING_DAYS, minutes=-1)
    attempt(runtime, job_id)
    assert endpoint(database, hook[0]).failing_since is None
    attempt(runtime, ended_job(database))
    assert endpoint(database, hook[0]).enabled


def since(database: Engine, *, days: int, minutes: int) -> None:
    """Let all endpoints have failed for so long."""
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE webhook_endpoints
                SET failing_since = now() - make_interval(days => :days, mins => :minutes)
            """),
            {"days": days, "minutes": minutes},
        )


def test_what_is_pending_for_an_endpoint_disabled_by_its_owner_fails_and_is_not_sent(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    job_id = ended_job(database)
    change_endpoint(database, TENANT, hook[0], enabled=False)
    assert (only(database).state, only(database).error) == (
        FAILED,
        "its owner disabled the webhook",
    )
    attempt(runtime, job_id)
    assert is_void(database, job_id)
    change_endpoint(database, TENANT, hook[0], enabled=True)
    assert receiver.requests == []
    attempt(runtime, ended_job(database))
    assert len(receiver.requests) == 1


def test_what_is_pending_for_a_deleted_endpoint_is_not_sent(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    job_id = ended_job(database)
    delete_endpoint(database, TENANT, hook[0])
    attempt(runtime, job_id)
    assert receiver.requests == []
    assert is_void(database, job_id)


def test_an_endpoint_deleted_while_an_attempt_is_made_breaks_nothing(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    receiver.reply(Reply(500, hang=True))
    job_id = ended_job(database)
    worker = threading.Thread(target=attempt, args=(runtime, job_id))
    worker.start()
    while not receiver.requests:
        time.sleep(0.01)
    delete_endpoint(database, TENANT, hook[0])
    receiver.release()
    worker.join(60)
    assert deliver_steps(database, job_id, state="failed")


def test_endpoints_disabled_and_attempts_written_at_once_do_not_deadlock(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    receiver.reply(Reply(500), Reply(410), Reply(500))
    for _ in range(12):
        ended_job(database)
    work = one_by_one({StepKind.DELIVER: deliver})
    threads = [
        threading.Thread(target=answer, args=(runtime, DELIVER_QUEUE, work)) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not endpoint(database, hook[0]).enabled
    assert {view.state for view in deliveries(database)} == {FAILED}
