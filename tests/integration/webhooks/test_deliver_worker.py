"""The delivery worker as a process: from a job's end to the receiver, and nobody in its way."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine

from harness.jobs.job_store import add_job, claim
from harness.jobs.webhook_store import (
    TENANT,
    add_hook,
    cancel,
    deliver_steps,
    deliveries,
    on_loopback,
)
from harness.peers.receivers import Reply, receiving
from harness.programs.workers import Fleet, fleet, wait_until
from shared.infra.errors import UnreadableMedia
from shared.infra.settings import Settings
from shared.infra.webhooks.attempt import TIMEOUT_S
from shared.store import steps
from shared.store.jobs.read import get_job
from shared.store.queues import DELIVERY_SLOTS
from shared.store.states import DeliveryState, JobState
from shared.store.steps.fair_order import LANE_LIMIT
from shared.store.webhooks.endpoints import EventType
from shared.store.workers import live_workers


@pytest.fixture
def workers(settings: Settings, tmp_path: Path) -> Iterator[Fleet]:
    prompt = settings.model_copy(update={"sweep_s": 0.5})
    with fleet(on_loopback(prompt), tmp_path) as started:
        yield started


def canceled_jobs(database: Engine, n: int) -> list[UUID]:
    jobs = [add_job(database) for _ in range(n)]
    for job_id in jobs:
        cancel(database, job_id)
    return jobs


def states(database: Engine, endpoint_id: UUID) -> set[DeliveryState]:
    return {view.state for view in deliveries(database) if view.endpoint_id == endpoint_id}


def test_a_worker_delivers_what_jobs_ends_have_left_whatever_other_receivers_do(
    database: Engine, workers: Fleet
) -> None:
    with receiving(Reply(hang=True)) as slow, receiving(Reply(500), Reply(204)) as prompt:
        slow_id, _ = add_hook(database, slow.url, EventType.CANCELED)
        prompt_id, secret = add_hook(database, prompt.url, EventType.FAILED)
        canceled_jobs(database, 3 * LANE_LIMIT)
        workers.start("beat")
        worker = workers.start("deliver")
        wait_until(lambda: slow.most_at_once >= LANE_LIMIT)

        job_id = add_job(database)
        steps.fail(database, claim(database, job_id, "prepare"), UnreadableMedia("a poem"))
        wait_until(lambda: states(database, prompt_id) == {DeliveryState.DELIVERED})

        first, again = prompt.verified(secret)
        assert first == again
        assert (first["type"], first["data"]["job_id"]) == ("job.failed", str(job_id))
        assert prompt.requests[1].at - prompt.requests[0].at > 4
        assert get_job(database, TENANT, job_id).state == JobState.FAILED
        (entry,) = [w for w in live_workers(database, live_s=30) if w.role == "deliver"]
        assert (entry.queues, entry.slots, entry.state) == (["deliver"], DELIVERY_SLOTS, "ready")

        # On a busy machine the first have been given up by now, and only then others came.
        came = sorted(request.at for request in list(slow.requests))
        gaps_s = [later - at for at, later in zip(came, came[LANE_LIMIT:], strict=False)]
        assert all(gap_s > TIMEOUT_S / 2 for gap_s in gaps_s)

        # Told to stop, it ends what it has begun and leaves the rest.
        worker.process.terminate()
        slow.release()
        assert worker.stop() == 0
        found = [view for view in deliveries(database) if view.endpoint_id == slow_id]
        delivered = [view for view in found if view.state == DeliveryState.DELIVERED]
        assert {view.event_id for view in delivered} <= {UUID(each.id) for each in slow.requests}
        for view in found:
            if view.state == DeliveryState.PENDING:
                assert all(made.status_code is None for made in view.attempts)
        assert "Traceback" not in worker.log
        assert not [
            step
            for view in found
            if view.job_id is not None
            for step in deliver_steps(database, view.job_id, state="running")
        ]
