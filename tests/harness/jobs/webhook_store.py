"""The vocabulary in which tests talk about webhooks, their events and their deliveries."""

import json
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from harness.jobs.job_store import add_job, new_job
from harness.jobs.step_runner import run_claimed
from shared.infra.outbound import Outbound
from shared.infra.settings import Settings
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.create import create_job
from shared.store.webhooks.deliveries import DeliveryView, list_deliveries
from shared.store.webhooks.endpoints import EventType, add_endpoint
from worker.process.runtime import Runtime
from worker.steps.deliver import deliver

TENANT = "default"
SECRET = "whsec_" + "c2VjcmV0" * 4
OTHER_SECRET = "whsec_" + "b3RoZXJz" * 4


def on_loopback(settings: Settings) -> Settings:
    """Settings with which webhooks may reach receivers of a test."""
    return settings.model_copy(update={"outbound_http": True, "outbound_allow": "127.0.0.0/8"})


def add_hook(
    database: Engine, url: str, *events: EventType, tenant: str = TENANT
) -> tuple[UUID, str]:
    """Add a listed endpoint; return its id and its secret."""
    view, secret = add_endpoint(
        database, tenant, url=url, description="", events=events or tuple(EventType)
    )
    return view.id, secret


def events(database: Engine, job_id: UUID) -> list[dict[str, Any]]:
    """The events of a job, oldest first: run, type, and the body as JSON."""
    with database.begin() as connection:
        rows = connection.execute(
            text("SELECT run, type, body FROM webhook_events WHERE job_id = :id ORDER BY run"),
            {"id": job_id},
        ).mappings()
        return [{**row, "body": json.loads(row["body"])} for row in rows]


def deliveries(database: Engine, job_id: UUID | None = None) -> list[DeliveryView]:
    """The deliveries, newest first."""
    return list_deliveries(database, TENANT, limit=1000, job_id=job_id)


def endpoint(database: Engine, endpoint_id: UUID) -> Any:
    """The row of an endpoint, listed or not."""
    with database.begin() as connection:
        return connection.execute(
            text("SELECT * FROM webhook_endpoints WHERE id = :id"), {"id": endpoint_id}
        ).one()


def deliver_steps(database: Engine, job_id: UUID, *, state: str = "queued") -> list[int]:
    """The deliver steps of a job in a state, oldest first."""
    with database.begin() as connection:
        return list(
            connection.execute(
                text("""
                    SELECT id FROM steps
                    WHERE job_id = :id AND kind = 'deliver' AND state = :state ORDER BY idx
                """),
                {"id": job_id, "state": state},
            ).scalars()
        )


def make_due(database: Engine, job_id: UUID) -> None:
    """Let the delays of a job's deliver steps be over."""
    with database.begin() as connection:
        connection.execute(
            text("UPDATE steps SET run_at = now() WHERE job_id = :id AND kind = 'deliver'"),
            {"id": job_id},
        )


def attempt(runtime: Runtime, job_id: UUID) -> None:
    """Make one attempt at each delivery of a job that is not over, due or not."""
    make_due(runtime.database, job_id)
    for step_id in deliver_steps(runtime.database, job_id):
        run_claimed(runtime, step_id, deliver)


def create(database: Engine, **fields: object) -> UUID:
    """Add a job of which these fields are given."""
    job = new_job(**fields)
    create_job(database, job, max_attempts=2)
    return job.id


def cancel(database: Engine, job_id: UUID, tenant: str = TENANT) -> None:
    """End a job, the shortest way."""
    cancel_job(database, tenant, job_id, max_attempts=2)


def ended_job(database: Engine) -> UUID:
    """Add a job and end it."""
    job_id = add_job(database)
    cancel(database, job_id)
    return job_id


def only(database: Engine, job_id: UUID | None = None) -> DeliveryView:
    """The only delivery, of a job or at all."""
    (found,) = deliveries(database, job_id)
    return found


def loopback() -> Outbound:
    """A wall with a door to receivers of a test."""
    return Outbound(allow_http=True, allow=["127.0.0.0/8"])
