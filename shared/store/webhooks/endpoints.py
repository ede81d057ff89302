"""Webhook endpoints: a tenant's listed ones, and the unlisted ones of URLs that jobs name."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from urllib.parse import urlsplit
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, text
from uuid_utils.compat import uuid7

from shared.infra.database import begin, read
from shared.infra.errors import TooManyWebhooks, WebhookNotFound
from shared.infra.webhooks.signature import new_secret
from shared.store.webhooks.faces import Face

MAX_ENDPOINTS = 50
"""Of a tenant, listed; each costs every job of the tenant a delivery."""

OLD_SECRET_HOURS = 24
"""How long an old secret signs beside the new one."""


class EventType(StrEnum):
    """The events that endpoints choose from."""

    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELED = "job.canceled"
    BATCH_COMPLETED = "batch.completed"


TEST_EVENT = "webhook.test"
"""The type of an event that an endpoint's owner asks for, to try it."""


@dataclass(frozen=True, slots=True)
class JobWebhook:
    """A URL that is told of one job's end, or batch's, beside the tenant's endpoints."""

    url: str
    secret: str
    face: Face | None = None
    """None: the native one."""


_COLUMNS = """
    id, url, description, events, enabled, disabled_reason, failing_since, created_at,
    CASE WHEN old_secret_until > clock_timestamp() THEN old_secret_until END AS old_secret_until
"""


@dataclass(frozen=True, slots=True)
class EndpointView:
    """A listed endpoint without its secret."""

    id: UUID
    url: str
    description: str
    events: Sequence[str]
    enabled: bool
    disabled_reason: str | None
    failing_since: datetime | None
    """When the first attempt failed after the last successful one."""
    created_at: datetime
    old_secret_until: datetime | None
    """The previous secret also signs until then."""


def add_endpoint(
    engine: Engine, tenant: str, *, url: str, description: str, events: Sequence[EventType]
) -> tuple[EndpointView, str]:
    """Return a new endpoint and its secret, which is not shown again.

    Raises:
        TooManyWebhooks: the tenant has ``MAX_ENDPOINTS`` already.
    """
    secret = new_secret()
    with begin(engine, tenant) as connection:
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
                INSERT INTO webhook_endpoints (id, tenant, url, host, description, events, secret,
                                               listed)
                VALUES (:id, :tenant, :url, :host, :description, :events, :secret, true)
                RETURNING {_COLUMNS}
            """),  # noqa: S608 - the columns are a constant
            {
                "id": uuid7(),
                "tenant": tenant,
                "url": url,
                "host": host_of(url),
                "description": description,
                "events": list(map(str, events)),
                "secret": secret,
            },
        ).mappings()
        return EndpointView(**row.one()), secret


def list_endpoints(engine: Engine, tenant: str) -> list[EndpointView]:
    """Return a tenant's listed endpoints, the oldest first."""
    with read(engine, tenant) as connection:
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
    """
    with read(engine, tenant) as connection:
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
    """Change what is given; disabling fails the pending deliveries.

    Raises:
        WebhookNotFound: there is none of that id, or it is another tenant's.
    """
    with begin(engine, tenant) as connection:
        found = _read(connection, tenant, endpoint_id, lock=True)
        connection.execute(
            text("""
                UPDATE webhook_endpoints
                SET url = coalesce(:url, url), host = coalesce(:host, host),
                    prompt = prompt AND CAST(:url AS text) IS NULL,
                    description = coalesce(:description, description),
                    events = coalesce(CAST(:events AS text[]), events)
                WHERE id = :id
            """),
            {
                "id": endpoint_id,
                "url": url,
                "host": None if url is None else host_of(url),
                "description": description,
                "events": None if events is None else list(map(str, events)),
            },
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
    """Delete an endpoint with its deliveries and test events; pending ones are not sent.

    Raises:
        WebhookNotFound: there is none of that id, or it is another tenant's.
    """
    with begin(engine, tenant) as connection:
        _read(connection, tenant, endpoint_id, lock=True)
        # Jobs' events stay. A test's event is for this endpoint alone.
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
    """Return an endpoint and its new secret; the old one also signs for ``OLD_SECRET_HOURS``.

    Raises:
        WebhookNotFound: there is none of that id, or it is another tenant's.
    """
    secret = new_secret()
    with begin(engine, tenant) as connection:
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


def keep_unlisted(connection: Connection, tenant: str, hook: JobWebhook) -> UUID:
    """Return the enabled endpoint of all jobs that name an equal webhook.

    Its row stays locked until the job's transaction commits, so ``drop_unlisted`` sees the job. If
    that comes first, the endpoint is inserted anew.
    """
    face = None if hook.face is None else hook.face.model_dump(mode="json")
    named = json.dumps([hook.url, hook.secret, face], sort_keys=True)
    found: UUID = connection.execute(
        text("""
            INSERT INTO webhook_endpoints (id, tenant, url, host, events, secret, face, listed,
                                           digest)
            VALUES (:id, :tenant, :url, :host, :events, :secret, :face, false, :digest)
            ON CONFLICT (tenant, digest) WHERE NOT listed DO UPDATE
            SET enabled = true, disabled_reason = NULL,
                failing_since = CASE WHEN webhook_endpoints.enabled
                                     THEN webhook_endpoints.failing_since END
            RETURNING id
        """),
        {
            "id": uuid7(),
            "tenant": tenant,
            "url": hook.url,
            "host": host_of(hook.url),
            "events": list(map(str, EventType)),
            "secret": hook.secret,
            "face": None if face is None else Jsonb(face),
            "digest": hashlib.sha256(named.encode()).hexdigest(),
        },
    ).scalar_one()
    return found


def lock_unlisted(connection: Connection, job_id: UUID) -> UUID | None:
    """Lock and return the unlisted endpoint of a job.

    This comes before the job is deleted: an endpoint is locked before its deliveries.
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
    """Delete an endpoint that no job or batch names any more; its deliveries went with the jobs.

    The caller has locked it, so of two jobs deleted at once the second sees that it is the last.
    """
    connection.execute(
        text("""
            DELETE FROM webhook_endpoints
            WHERE id = :id AND NOT EXISTS (SELECT FROM jobs WHERE webhook_endpoint_id = :id)
              AND NOT EXISTS (SELECT FROM batches WHERE webhook_endpoint_id = :id)
        """),
        {"id": endpoint_id},
    )


def disable(connection: Connection, endpoint_id: UUID, reason: str) -> None:
    """Endpoint enabled -> disabled, and its deliveries pending -> failed.

    The caller has locked the endpoint. The ``deliver`` steps find out when they are due.
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


def host_of(url: str) -> str:
    """Return the host of a URL that ``Outbound.check_url`` has taken."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:  # the two parsers differ on a few URLs; those share what no host has
        return ""


def _read(
    connection: Connection, tenant: str, endpoint_id: UUID, *, lock: bool = False
) -> EndpointView:
    found = connection.execute(
        text(f"""
            SELECT {_COLUMNS} FROM webhook_endpoints
            WHERE id = :id AND tenant = :tenant AND listed
            {"FOR NO KEY UPDATE" if lock else ""}
        """),  # noqa: S608 - the variable parts are constants
        {"id": endpoint_id, "tenant": tenant},
    )
    row = found.mappings().one_or_none()
    if row is None:
        raise WebhookNotFound(f"there is no webhook {endpoint_id}")
    return EndpointView(**row)
