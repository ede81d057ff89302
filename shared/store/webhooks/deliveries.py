"""Deliveries of webhook events to endpoints, their attempts, and test events."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text
from uuid_utils.compat import uuid7

from shared.infra.database import begin, read
from shared.infra.errors import DeliveryNotFound, WebhookNotFound
from shared.infra.webhooks.attempt import Attempt, Outgoing
from shared.store.states import DeliveryState
from shared.store.webhooks.endpoints import TEST_EVENT
from shared.store.webhooks.faces import FACE, Face

_VIEW = """
    SELECT webhook_deliveries.id, webhook_deliveries.state, webhook_deliveries.error,
           webhook_deliveries.created_at, webhook_deliveries.finished_at,
           webhook_deliveries.endpoint_id, webhook_endpoints.url,
           coalesce(webhook_endpoints.face ->> 'name', 'native') AS face,
           webhook_events.id AS event_id, webhook_events.type, webhook_events.job_id,
           webhook_events.body,
           CASE WHEN webhook_deliveries.state = 'pending' THEN (
               SELECT min(run_at) FROM steps
               WHERE steps.job_id = webhook_events.job_id AND kind = 'deliver'
                 AND steps.state = 'queued'
                 AND input ->> 'delivery_id' = webhook_deliveries.id::text
           ) END AS next_attempt_at
    FROM webhook_deliveries
    JOIN webhook_events ON webhook_events.id = webhook_deliveries.event_id
    JOIN webhook_endpoints ON webhook_endpoints.id = webhook_deliveries.endpoint_id
    WHERE webhook_deliveries.tenant = :tenant
"""


@dataclass(frozen=True, slots=True)
class AttemptView:
    """An attempt, as the delivery's tenant may see it."""

    at: datetime
    """When it ended."""
    status_code: int | None
    latency_ms: float
    error: str | None


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A delivery as its tenant may see it."""

    id: UUID
    state: DeliveryState
    error: str | None
    """Why it failed."""
    created_at: datetime
    finished_at: datetime | None
    next_attempt_at: datetime | None
    """None unless it is pending and no attempt is running."""
    endpoint_id: UUID
    url: str
    """The endpoint's current one."""
    face: str
    """In whose form the endpoint is told: ``native``, or a dialect's name."""
    event_id: UUID
    type: str
    job_id: UUID | None
    """None for a test event."""
    body: str
    """In the native form."""
    attempts: Sequence[AttemptView]


def list_deliveries(
    engine: Engine,
    tenant: str,
    *,
    limit: int,
    before: UUID | None = None,
    job_id: UUID | None = None,
    endpoint_id: UUID | None = None,
    state: DeliveryState | None = None,
) -> list[DeliveryView]:
    """Return the newest deliveries, newest first; ``before`` continues after a page's last one."""
    wanted = {
        "webhook_deliveries.id < :before": ("before", before),
        "webhook_events.job_id = :job_id": ("job_id", job_id),
        "webhook_deliveries.endpoint_id = :endpoint_id": ("endpoint_id", endpoint_id),
        "webhook_deliveries.state = :state": ("state", state),
    }
    filters = {clause: given for clause, given in wanted.items() if given[1] is not None}
    query = " AND ".join([_VIEW, *filters]) + " ORDER BY webhook_deliveries.id DESC LIMIT :limit"
    with read(engine, tenant) as connection:
        return _views(connection, query, tenant=tenant, limit=limit, **dict(filters.values()))


def get_delivery(engine: Engine, tenant: str, delivery_id: UUID) -> DeliveryView:
    """Return a delivery.

    Raises:
        DeliveryNotFound: there is none of that id, or it is another tenant's.
    """
    with read(engine, tenant) as connection:
        found = _views(
            connection, f"{_VIEW} AND webhook_deliveries.id = :id", tenant=tenant, id=delivery_id
        )
    if not found:
        raise DeliveryNotFound(f"there is no delivery {delivery_id}")
    return found[0]


def record_test(
    engine: Engine, tenant: str, endpoint_id: UUID, outgoing: Outgoing, attempt: Attempt
) -> UUID:
    """Store a test event, its delivery and its only attempt; return the delivery's id.

    Raises:
        WebhookNotFound: the endpoint was deleted meanwhile.
    """
    delivery_id = uuid7()
    with begin(engine, tenant) as connection:
        found = connection.execute(
            # A shared lock lets other tests go on; ``delete_endpoint`` waits for it.
            text("SELECT FROM webhook_endpoints WHERE id = :id FOR SHARE"),
            {"id": endpoint_id},
        ).one_or_none()
        if found is None:
            raise WebhookNotFound(f"there is no webhook {endpoint_id}")
        connection.execute(
            text("""
                WITH event AS (
                    INSERT INTO webhook_events (id, tenant, run, type, body)
                    VALUES (:event_id, :tenant, 0, :type, :body)
                )
                INSERT INTO webhook_deliveries (id, tenant, event_id, endpoint_id, state, error,
                                                finished_at)
                VALUES (:id, :tenant, :event_id, :endpoint_id, :state, :error, clock_timestamp())
            """),
            {
                "id": delivery_id,
                "tenant": tenant,
                "event_id": outgoing.event_id,
                "endpoint_id": endpoint_id,
                "type": TEST_EVENT,
                "body": b"".join(outgoing.body).decode(),
                "state": DeliveryState.FAILED if attempt.error else DeliveryState.DELIVERED,
                "error": attempt.error,
            },
        )
        add_attempt(connection, delivery_id, attempt)
    return delivery_id


@dataclass(frozen=True, slots=True)
class OwnWebhook:
    """The webhook that a job itself has named, without its secret."""

    url: str
    face: Face | None
    """None: the native one."""
    status_code: int | None
    """Of the latest attempt to tell it of the job's end; None: there was no answer (yet)."""


def find_own_webhook(engine: Engine, tenant: str, job_id: UUID) -> OwnWebhook | None:
    """Return the webhook that a job has named; None: it has named none, or is not there."""
    with read(engine, tenant) as connection:
        row = connection.execute(
            text("""
                SELECT url, face, (
                    SELECT status_code
                    FROM webhook_events
                    JOIN webhook_deliveries ON event_id = webhook_events.id
                    JOIN webhook_attempts ON delivery_id = webhook_deliveries.id
                    WHERE webhook_events.job_id = jobs.id AND endpoint_id = webhook_endpoints.id
                    ORDER BY webhook_attempts.id DESC LIMIT 1
                ) AS status_code
                FROM jobs JOIN webhook_endpoints ON webhook_endpoints.id = webhook_endpoint_id
                WHERE jobs.id = :id AND jobs.tenant = :tenant
            """),
            {"id": job_id, "tenant": tenant},
        ).one_or_none()
    if row is None:
        return None
    face = None if row.face is None else FACE.validate_python(row.face)
    return OwnWebhook(row.url, face, row.status_code)


def add_attempt(connection: Connection, delivery_id: UUID | str, attempt: Attempt) -> None:
    """Store how an attempt went."""
    connection.execute(
        text("""
            INSERT INTO webhook_attempts (delivery_id, status_code, latency_ms, error, at)
            VALUES (:delivery_id, :status_code, :latency_ms, :error, clock_timestamp())
        """),
        {
            "delivery_id": delivery_id,
            "status_code": attempt.status_code,
            "latency_ms": attempt.latency_ms,
            "error": attempt.error,
        },
    )


def event_body(event_type: str, at: datetime, data: dict[str, Any]) -> str:
    """Return an event's body in the form of Standard Webhooks."""
    event = {"type": event_type, "timestamp": at.astimezone(UTC).isoformat(), "data": data}
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def _views(connection: Connection, query: str, **parameters: object) -> list[DeliveryView]:
    rows = connection.execute(text(query), parameters).mappings().all()
    attempts: dict[UUID, list[AttemptView]] = {row["id"]: [] for row in rows}
    made = connection.execute(
        text("""
            SELECT delivery_id, at, status_code, latency_ms, error FROM webhook_attempts
            WHERE delivery_id = ANY (:ids) ORDER BY id
        """),
        {"ids": list(attempts)},
    ).mappings()
    for each in made:
        fields = dict(each)
        attempts[fields.pop("delivery_id")].append(AttemptView(**fields))
    return [
        DeliveryView(
            **{**row, "state": DeliveryState(row["state"]), "attempts": attempts[row["id"]]}
        )
        for row in rows
    ]
