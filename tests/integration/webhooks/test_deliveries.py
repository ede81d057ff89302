"""Deliveries to real receivers: signed, tried again, given up, replayed; the job is left alone."""

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Engine, text
from standardwebhooks import WebhookVerificationError

from harness.jobs.job_store import add_job, claim, column, expire, missing_table
from harness.jobs.step_runner import run_claimed
from harness.jobs.webhook_store import (
    TENANT,
    add_hook,
    attempt,
    deliver_steps,
    ended_job,
    events,
    make_due,
    only,
)
from harness.peers.receivers import Receiver, Reply, receiving
from shared.infra.errors import LeaseLost
from shared.infra.outbound import Outbound
from shared.infra.webhooks.attempt import MAX_ATTEMPTS, RETRY_DELAYS_S
from shared.store import steps
from shared.store.jobs.read import get_job
from shared.store.jobs.retry import retry_job
from shared.store.states import DeliveryState, JobState
from shared.store.webhooks.deliveries import DeliveryView
from shared.store.webhooks.endpoints import rotate_secret
from worker.process import drain
from worker.process.runtime import Runtime, make_runtime
from worker.steps.deliver import deliver

PENDING, DELIVERED, FAILED = DeliveryState


def delay_s(database: Engine, view: DeliveryView) -> float:
    """Seconds from the last attempt to the next."""
    assert view.next_attempt_at is not None
    return (view.next_attempt_at - view.attempts[-1].at).total_seconds()


def test_a_delivery_is_verified_by_a_strangers_library(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    job_id = ended_job(database)
    began = time.monotonic()
    attempt(runtime, job_id)
    took_ms = 1000 * (time.monotonic() - began)
    (request,) = receiver.requests
    assert request.verify(hook[1]) == events(database, job_id)[0]["body"]
    found = only(database)
    assert (found.state, found.error, found.next_attempt_at) == (DELIVERED, None, None)
    assert (request.id, request.body.decode()) == (str(found.event_id), found.body)
    assert request.headers["content-type"] == "application/json"
    (made,) = found.attempts
    assert (made.status_code, made.error) == (204, None)
    assert 0 < made.latency_ms < took_ms
    assert found.finished_at is not None
    assert deliver_steps(database, job_id, state="done")


def test_a_body_that_was_tampered_with_is_not_verified(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    attempt(runtime, ended_job(database))
    forged = replace(receiver.requests[0], body=receiver.requests[0].body + b" ")
    with pytest.raises(WebhookVerificationError):
        forged.verify(hook[1])


def test_what_failed_is_sent_again_with_the_same_id(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    receiver.reply(Reply(500), Reply(503, body=b"secret words"), Reply(200))
    job_id = ended_job(database)
    counted = {outcome: count_attempts(outcome) for outcome in ("failed", "delivered")}
    for _ in range(2):
        attempt(runtime, job_id)
        assert only(database).state == PENDING
    attempt(runtime, job_id)
    found = only(database)
    assert found.state == DELIVERED
    assert [made.status_code for made in found.attempts] == [500, 503, 200]
    assert len({request.id for request in receiver.requests}) == 1
    assert len({request.body for request in receiver.requests}) == 1
    assert len(receiver.verified(hook[1])) == 3
    assert "secret words" not in str(found)
    assert count_attempts("failed") == counted["failed"] + 2
    assert count_attempts("delivered") == counted["delivered"] + 1


def count_attempts(outcome: str) -> float:
    """What the worker's own metrics say."""
    return REGISTRY.get_sample_value("longhand_webhook_attempts_total", {"outcome": outcome}) or 0


@pytest.fixture
def gone() -> Iterator[str]:
    """The URL of a receiver that refuses: bound, so that nobody else can be there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/hook"


def test_a_dead_receiver_is_tried_ten_times_in_about_28_hours(
    database: Engine, runtime: Runtime, gone: str
) -> None:
    add_hook(database, gone)
    job_id = ended_job(database)
    delays = []
    for made in range(1, MAX_ATTEMPTS + 1):
        attempt(runtime, job_id)
        found = only(database)
        assert len(found.attempts) == made
        assert found.attempts[-1].status_code is None
        if made < MAX_ATTEMPTS:
            assert found.state == PENDING
            delays.append(delay_s(database, found))
            mean = RETRY_DELAYS_S[made - 1]
            with database.connect() as connection:
                now = connection.scalar(text("SELECT now()"))
            # The delay counts from the end of the attempt, which is between its begin and now.
            assert delays[-1] >= 0.9 * mean
            assert delays[-1] - (now - found.attempts[-1].at).total_seconds() <= 1.1 * mean
    assert found.state == FAILED
    assert found.error == "the connection was refused (after 10 attempts)"
    assert sum(delays) == pytest.approx(28 * 3600, rel=0.1)
    assert sum(RETRY_DELAYS_S) == pytest.approx(28 * 3600, rel=0.01)


def test_delays_are_spread(database: Engine, runtime: Runtime, gone: str) -> None:
    add_hook(database, gone)
    delays = set()
    for _ in range(3):
        job_id = ended_job(database)
        attempt(runtime, job_id)
        delays.add(round(delay_s(database, only(database, job_id)), 2))
    assert len(delays) > 1


def test_a_delivery_that_fails_for_good_leaves_its_job_as_it_is(
    database: Engine, runtime: Runtime, gone: str
) -> None:
    add_hook(database, gone)
    job_id = ended_job(database)
    before = get_job(database, TENANT, job_id)
    for _ in range(MAX_ATTEMPTS):
        attempt(runtime, job_id)
    assert only(database).state == FAILED
    (step,) = deliver_steps(database, job_id, state="failed")
    assert column(database, step, "error_code") == "delivery_failed"
    after = get_job(database, TENANT, job_id)
    assert replace(after, last_event=before.last_event) == before


def test_a_pending_delivery_holds_up_no_retry_of_its_job(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    job_id = add_job(database, max_attempts=1)
    expire(database, claim(database, job_id, "prepare"))
    steps.reap(database)
    retry_job(database, TENANT, job_id, max_attempts=1)
    attempt(runtime, job_id)
    assert [event["type"] for event in receiver.verified(hook[1])] == ["job.failed"]
    assert get_job(database, TENANT, job_id).state == JobState.QUEUED


def test_retry_after_is_honoured(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    receiver.reply(Reply(503, {"Retry-After": "3600"}))
    attempt(runtime, ended_job(database))
    assert 3600 <= delay_s(database, only(database)) <= 3600 * 1.1 + 1


def test_a_redirect_is_a_failure_and_is_not_followed(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    with receiving() as target:
        receiver.reply(Reply(307, {"Location": target.url}))
        attempt(runtime, ended_job(database))
    assert target.requests == []
    (made,) = only(database).attempts
    assert (made.status_code, only(database).state) == (307, PENDING)
    assert "redirects are not followed" in str(made.error)


def test_a_receiver_behind_the_wall_is_not_called(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    strict = make_runtime(runtime.settings, "strict")
    try:
        attempt(replace(strict, outbound=Outbound(allow_http=True)), ended_job(database))
    finally:
        strict.close()
    assert receiver.requests == []
    (made,) = only(database).attempts
    assert made.error == (
        "the URL names an address that is not public "
        "(an operator can allow it: LONGHAND_OUTBOUND_ALLOW)"
    )


# --- rotation ---


def test_after_a_rotation_both_secrets_verify_for_a_day_and_then_the_new_one(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    endpoint_id, old = hook
    view, new = rotate_secret(database, TENANT, endpoint_id)
    assert view.old_secret_until is not None
    lasts = view.old_secret_until - datetime.now(UTC)
    assert abs(lasts - timedelta(hours=24)) < timedelta(minutes=1)
    attempt(runtime, ended_job(database))
    (request,) = receiver.requests
    assert request.headers["webhook-signature"].count("v1,") == 2
    assert request.verify(old) == request.verify(new)

    with database.begin() as connection:
        connection.execute(text("UPDATE webhook_endpoints SET old_secret_until = now()"))
    attempt(runtime, ended_job(database))
    later = receiver.requests[1]
    later.verify(new)
    with pytest.raises(WebhookVerificationError):
        later.verify(old)


# --- crashes and stops ---


def test_an_attempt_whose_worker_died_is_made_again(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    job_id = ended_job(database)
    lost = claim(database, job_id, "deliver")
    expire(database, lost)
    assert steps.reap(database) == 1
    attempt(runtime, job_id)
    assert only(database).state == DELIVERED
    with pytest.raises(LeaseLost):
        steps.release(database, lost)


def test_a_delivery_that_kills_every_worker_fails_alone(
    database: Engine, hook: tuple[UUID, str]
) -> None:
    job_id = ended_job(database)
    for _ in range(MAX_ATTEMPTS):
        make_due(database, job_id)
        expire(database, claim(database, job_id, "deliver"))
        assert steps.reap(database) == 1
    assert only(database).state == FAILED
    assert get_job(database, TENANT, job_id).state == JobState.CANCELED


def test_a_lease_of_a_delivery_is_renewed_though_its_job_has_ended(
    database: Engine, hook: tuple[UUID, str]
) -> None:
    held = claim(database, ended_job(database), "deliver", lease_s=1)
    assert steps.renew(database, [held], lease_s=30) == {(held.step_id, held.epoch)}


def test_a_bug_costs_an_attempt_and_not_the_job(
    database: Engine, runtime: Runtime, hook: tuple[UUID, str]
) -> None:
    job_id = ended_job(database)
    with missing_table(database, "webhook_attempts"):
        attempt(runtime, job_id)
    (step,) = deliver_steps(database, job_id)
    assert column(database, step, "attempt") == 1
    assert column(database, step, "bug") is not None
    assert only(database).state == PENDING
    attempt(runtime, job_id)
    assert only(database).state == DELIVERED


def test_a_worker_that_stops_releases_what_it_has_not_sent(
    database: Engine,
    runtime: Runtime,
    receiver: Receiver,
    hook: tuple[UUID, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job_id = ended_job(database)
    (step,) = deliver_steps(database, job_id)
    monkeypatch.setattr(drain, "has_begun", lambda: True)
    run_claimed(runtime, step, deliver)
    assert receiver.requests == []
    assert (column(database, step, "state"), column(database, step, "attempt")) == ("queued", 0)
