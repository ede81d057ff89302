"""Endpoints: who is told of jobs' ends. Those of a tenant are listed; a job's own one is not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, RowMapping, text
from uuid_utils.compat import uuid7

from shared.infra.database import begin
from shared.infra.errors import TooManyWebhooks, WebhookNotFound
from shared.infra.webhooks.signature import new_secret

MAX_ENDPOINTS = 50
"""Listed ones of a tenant; each costs every job of the tenant a delivery."""

OLD_SECRET_HOURS = 24
"""How long an old secret signs beside its successor."""


class EventType(StrEnum):
    """What endpoints are told of."""

    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELED = "job.canceled"


TEST_EVENT = "webhook.test"
"""The type of an event that an endpoint's owner asks for."""

_COLUMNS = """
    id, url, description, events, enabled, disabled_reason, failing_since, created_at,
    CASE WHEN old_secret_until > clock_timestamp() THEN old_secret_until END AS old_secret_until
"""


@dataclass(frozen=True, slots=True)
class EndpointView:
    """A listed endpoint as its tenant may see it: without its secret."""

    id: UUID
    url: str
    description: str
    events: Sequence[str]
    enabled: bool
    disabled_reason: str | None
    failing_since: datetime | None
    """Of the first failed attempt since the last one that succeeded."""
    created_at: datetime
    old_secret_until: datetime | None
    """Until when the secret before the last rotation signs too."""


def add_endpoint(
    engine: Engine, tenant: str, *, url: str, description: str, events: Sequence[EventType]
) -> tuple[EndpointView, str]:
    """Return a new endpoint, and its secret, which is never shown again.

    Raises:
        TooManyWebhooks: the tenant has ``MAX_ENDPOINTS`` already.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    secret = new_secret()
    with begin(engine) as connection:
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended('webhooks:' || :tenant, 0))"),
            {"tenant": tenant},
        )
        n_listed = connection.execute(
            text("SELECT count(*) FROM webhook_endpoints WHERE tenant = :tenant AND listed"),
            {"tenant": tenant},
        ).scalar_one()
        if n_listed >= MAX_ENDPOINTS:
            raise TooManyWebhooks(f"there are {MAX_ENDPOINTS} webhooks already, which is the limit")
        row = connection.execute(
            text(f"""
                INSERT INTO webhook_endpoints (id, tenant, url, description, events, secret, listed)
                VALUES (:id, :tenant, :url, :description, :events, :secret, true)
                RETURNING {_COLUMNS}
            """),  # noqa: S608 - the columns are a constant
            {
                "id": uuid7(),
                "tenant": tenant,
                "url": url,
                "description": description,
                "events": [str(event) for event in events],
                "secret": secret,
            },
        ).mappings()
        return EndpointView(**row.one()), secret


def list_endpoints(engine: Engine, tenant: str) -> list[EndpointView]:
    """Return a tenant's listed endpoints, the oldest first.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        rows = connection.execute(
            text(f"""
                SELECT {_COLUMNS} FROM webhook_endpoints WHERE tenant = :tenant AND listed
                ORDER BY id
            """),  # noqa: S608 - the columns are a constant
            {"tenant": tenant},
        ).mappings()
        return [EndpointView(**row) for row in rows]


def get_endpoint(engine: Engine, tenant: str, endpoint_id: UUID) -> EndpointView:
    """Return a listed endpoint.

    Raises:
        WebhookNotFound: there is none of that id, or it is another tenant's.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        return _read(connection, tenant, endpoint_id)


def change_endpoint(
    engine: Engine,
    tenant: str,
    endpoint_id: UUID,
    *,
    url: str | None = None,
    description: str | None = None,
    events: Sequence[EventType] | None = None,
    enabled: bool | None = None,
) -> EndpointView:
    """Change what is given; what is pending for a disabled endpoint fails.

    Raises:
        WebhookNotFound: there is none of that id, or it is another tenant's.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    given: Mapping[str, Any] = {
        "url": url,
        "description": description,
        "events": None if events is None else [str(event) for event in events],
    }
    changes = {name: value for name, value in given.items() if value is not None}
    with begin(engine) as connection:
        found = _read(connection, tenant, endpoint_id, lock=True)
        if changes:
            assignments = ", ".join(f"{name} = :{name}" for name in changes)
            connection.execute(
                text(f"UPDATE webhook_endpoints SET {assignments} WHERE id = :id"),  # noqa: S608 - names of ours
                {"id": endpoint_id, **changes},
            )
        if enabled is False and found.enabled:
            disable(connection, endpoint_id, "its owner disabled the webhook")
        elif enabled and not found.enabled:
            connection.execute(
                text("""
                    UPDATE webhook_endpoints
                    SET enabled = true, disabled_reason = NULL, failing_since = NULL WHERE id = :id
                """),
                {"id": endpoint_id},
            )
        return _read(connection, tenant, endpoint_id)


def delete_endpoint(engine: Engine, tenant: str, endpoint_id: UUID) -> None:
    """Remove an endpoint with its deliveries and test events; what is pending is not sent.

    Raises:
        WebhookNotFound: there is none of that id, or it is another tenant's.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        _read(connection, tenant, endpoint_id, lock=True)
        # Jobs' events stay; a test's has no other reader than its endpoint's owner.
        connection.execute(
            text("""
                DELETE FROM webhook_events USING webhook_deliveries
                WHERE event_id = webhook_events.id AND endpoint_id = :id AND job_id IS NULL
            """),
            {"id": endpoint_id},
        )
        connection.execute(
            text("DELETE FROM webhook_endpoints WHERE id = :id"), {"id": endpoint_id}
        )


def rotate_secret(engine: Engine, tenant: str, endpoint_id: UUID) -> tuple[EndpointView, str]:
    """Return an endpoint's new secret; the one before it signs too for ``OLD_SECRET_HOURS``.

    Raises:
        WebhookNotFound: there is none of that id, or it is another tenant's.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    secret = new_secret()
    with begin(engine) as connection:
        _read(connection, tenant, endpoint_id, lock=True)
        connection.execute(
            text("""
                UPDATE webhook_endpoints
                SET secret = :secret, old_secret = secret,
                    old_secret_until = clock_timestamp() + make_interval(hours => :hours)
                WHERE id = :id
            """),
            {"id": endpoint_id, "secret": secret, "hours": OLD_SECRET_HOURS},
        )
        return _read(connection, tenant, endpoint_id), secret


def keep_unlisted(connection: Connection, tenant: str, url: str, secret: str) -> UUID:
    """Return the endpoint of all jobs that name this URL with this secret, enabled.

    Its row stays locked until the caller's transaction has committed its job: ``drop_unlisted``
    sees the job then. Where that is first, the endpoint is made anew.
    """
    found: UUID = connection.execute(
        text("""
            INSERT INTO webhook_endpoints (id, tenant, url, events, secret, listed)
            VALUES (:id, :tenant, :url, :events, :secret, false)
            ON CONFLICT (tenant, url, secret) WHERE NOT listed DO UPDATE
            SET enabled = true, disabled_reason = NULL,
                failing_since = CASE WHEN webhook_endpoints.enabled
                                     THEN webhook_endpoints.failing_since END
            RETURNING id
        """),
        {
            "id": uuid7(),
            "tenant": tenant,
            "url": url,
            "events": [str(event) for event in EventType],
            "secret": secret,
        },
    ).scalar_one()
    return found


def lock_unlisted(connection: Connection, job_id: UUID) -> UUID | None:
    """Lock, and return, the endpoint that a job has made or found for the URL it names.

    Before the job goes, as an endpoint's row is locked before those of its deliveries.
    """
    found: UUID | None = connection.execute(
        text("""
            SELECT webhook_endpoints.id
            FROM jobs JOIN webhook_endpoints ON webhook_endpoints.id = webhook_endpoint_id
            WHERE jobs.id = :id FOR NO KEY UPDATE OF webhook_endpoints
        """),
        {"id": job_id},
    ).scalar_one_or_none()
    return found


def drop_unlisted(connection: Connection, endpoint_id: UUID) -> None:
    """Remove an endpoint that no job names any more; deliveries to it have gone with the jobs.

    The caller has locked it: of the last two jobs that go at once, the second sees that it is.
    """
    connection.execute(
        text("""
            DELETE FROM webhook_endpoints
            WHERE id = :id AND NOT EXISTS (SELECT FROM jobs WHERE webhook_endpoint_id = :id)
        """),
        {"id": endpoint_id},
    )


def disable(connection: Connection, endpoint_id: UUID, reason: str) -> None:
    """Endpoint enabled -> disabled, and its deliveries pending -> failed.

    The caller has locked the endpoint's row. Their steps find out when they are due.
    """
    connection.execute(
        text("""
            UPDATE webhook_endpoints SET enabled = false, disabled_reason = :reason WHERE id = :id
        """),
        {"id": endpoint_id, "reason": reason},
    )
    connection.execute(
        text("""
            UPDATE webhook_deliveries
            SET state = 'failed', error = :reason, finished_at = clock_timestamp()
            WHERE endpoint_id = :id AND state = 'pending'
        """),
        {"id": endpoint_id, "reason": reason},
    )


def _read(
    connection: Connection, tenant: str, endpoint_id: UUID, *, lock: bool = False
) -> EndpointView:
    row: RowMapping | None = (
        connection.execute(
            text(f"""
                SELECT {_COLUMNS} FROM webhook_endpoints
                WHERE id = :id AND tenant = :tenant AND listed
                {"FOR NO KEY UPDATE" if lock else ""}
            """),  # noqa: S608 - the variable parts are constants
            {"id": endpoint_id, "tenant": tenant},
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        raise WebhookNotFound(f"there is no webhook {endpoint_id}")
    return EndpointView(**row)
