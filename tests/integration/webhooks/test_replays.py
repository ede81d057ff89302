"""Deliveries that are sent again because their owner asks for it."""

from uuid import UUID

import pytest
from sqlalchemy import Engine

from harness.jobs.job_store import column
from harness.jobs.webhook_store import (
    TENANT,
    attempt,
    deliver_steps,
    ended_job,
    only,
)
from harness.peers.receivers import Receiver, Reply
from shared.infra.errors import DeliveryNotFound, DeliveryNotReplayable
from shared.infra.webhooks.attempt import MAX_ATTEMPTS
from shared.store.states import DeliveryState
from shared.store.webhooks.attempts import replay
from shared.store.webhooks.endpoints import change_endpoint
from worker.process.runtime import Runtime

PENDING, DELIVERED, FAILED = DeliveryState


@pytest.mark.parametrize("before", [DELIVERED, FAILED])
def test_a_delivery_is_replayed_with_the_same_id_and_all_its_attempts(
    database: Engine,
    runtime: Runtime,
    receiver: Receiver,
    hook: tuple[UUID, str],
    before: DeliveryState,
) -> None:
    receiver.reply(Reply(200 if before == DELIVERED else 500))
    job_id = ended_job(database)
    for _ in range(MAX_ATTEMPTS):
        attempt(runtime, job_id)
    found = only(database)
    assert found.state == before
    replay(database, TENANT, found.id)
    pending = only(database)
    assert (pending.state, pending.error, pending.finished_at) == (PENDING, None, None)
    (step,) = deliver_steps(database, job_id)
    assert (column(database, step, "idx"), column(database, step, "max_attempts")) == (1, 10)
    receiver.reply(Reply(200))
    attempt(runtime, job_id)
    after = only(database)
    assert after.state == DELIVERED
    assert len(after.attempts) == len(found.attempts) + 1
    assert {request.id for request in receiver.requests} == {str(found.event_id)}


def test_a_pending_delivery_is_not_replayed(database: Engine, hook: tuple[UUID, str]) -> None:
    job_id = ended_job(database)
    with pytest.raises(DeliveryNotReplayable, match="pending"):
        replay(database, TENANT, only(database).id)
    assert len(deliver_steps(database, job_id)) == 1


def test_another_tenants_delivery_is_not_replayed(database: Engine, hook: tuple[UUID, str]) -> None:
    ended_job(database)
    change_endpoint(database, TENANT, hook[0], enabled=False)
    with pytest.raises(DeliveryNotFound):
        replay(database, "somebody else", only(database).id)
    assert only(database).state == FAILED


def test_to_a_disabled_endpoint_nothing_is_replayed(
    database: Engine, hook: tuple[UUID, str]
) -> None:
    ended_job(database)
    change_endpoint(database, TENANT, hook[0], enabled=False)
    with pytest.raises(DeliveryNotReplayable, match="disabled"):
        replay(database, TENANT, only(database).id)
    assert only(database).state == FAILED


def test_a_step_left_over_from_before_a_replay_sends_nothing(
    database: Engine, runtime: Runtime, receiver: Receiver, hook: tuple[UUID, str]
) -> None:
    job_id = ended_job(database)
    change_endpoint(database, TENANT, hook[0], enabled=False)
    change_endpoint(database, TENANT, hook[0], enabled=True)
    (left_over,) = deliver_steps(database, job_id)
    replay(database, TENANT, only(database).id)
    assert left_over not in deliver_steps(database, job_id)
    attempt(runtime, job_id)
    assert len(receiver.requests) == 1
