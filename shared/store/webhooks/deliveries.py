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
from shared.infra.errors import DeliveryNotFound, DeliveryVoid, WebhookNotFound
from shared.infra.webhooks.attempt import Attempt, Outgoing
from shared.store.states import DeliveryState
from shared.store.webhooks.endpoints import TEST_EVENT

_VIEW = """
    SELECT webhook_deliveries.id, webhook_deliveries.state, webhook_deliveries.error,
           webhook_deliveries.created_at, webhook_deliveries.finished_at,
           webhook_deliveries.endpoint_id, webhook_endpoints.url,
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

_SECRETS = """
    ARRAY[secret] || CASE WHEN old_secret_until > clock_timestamp() THEN ARRAY[old_secret]
                          ELSE '{}' END AS secrets,
    extract(epoch FROM clock_timestamp())::bigint AS timestamp
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
    event_id: UUID
    type: str
    job_id: UUID | None
    """None for a test event."""
    body: str
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


def get_outgoing(engine: Engine, delivery_id: str) -> Outgoing:
    """Return what the next attempt of a delivery sends.

    Raises:
        DeliveryVoid: there is no next attempt.
    """
    with read(engine) as connection:
        row = connection.execute(
            text(f"""
                SELECT state, enabled, disabled_reason, url, {_SECRETS},
                       webhook_events.id::text AS event_id, body
                FROM webhook_deliveries
                JOIN webhook_events ON webhook_events.id = event_id
                JOIN webhook_endpoints ON webhook_endpoints.id = endpoint_id
                WHERE webhook_deliveries.id = :id
            """),  # noqa: S608 - the columns are a constant
            {"id": delivery_id},
        ).one_or_none()
    if row is None:
        raise DeliveryVoid("the webhook was deleted")
    if not row.enabled:
        raise DeliveryVoid(row.disabled_reason)
    if row.state != DeliveryState.PENDING:
        raise DeliveryVoid(f"the delivery is {row.state} already")
    return Outgoing(row.url, row.secrets, row.event_id, row.body, row.timestamp)


def make_test(engine: Engine, tenant: str, endpoint_id: UUID) -> Outgoing:
    """Return a test event for an endpoint, enabled or not; ``record_test`` stores it.

    Raises:
        WebhookNotFound: there is none of that id, or it is another tenant's.
    """
    with read(engine, tenant) as connection:
        row = connection.execute(
            text(f"""
                SELECT url, {_SECRETS}, clock_timestamp() AS at FROM webhook_endpoints
                WHERE id = :id AND tenant = :tenant AND listed
            """),  # noqa: S608 - the columns are a constant
            {"id": endpoint_id, "tenant": tenant},
        ).one_or_none()
    if row is None:
        raise WebhookNotFound(f"there is no webhook {endpoint_id}")
    body = event_body(TEST_EVENT, row.at, {"webhook_id": str(endpoint_id)})
    return Outgoing(row.url, row.secrets, str(uuid7()), body, row.timestamp)


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
                "body": outgoing.body,
                "state": DeliveryState.FAILED if attempt.error else DeliveryState.DELIVERED,
                "error": attempt.error,
            },
        )
        add_attempt(connection, delivery_id, attempt)
    return delivery_id


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
