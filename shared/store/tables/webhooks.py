"""Webhooks, their events and deliveries."""

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from shared.store.states import DeliveryState
from shared.store.tables.schema import TIME, metadata, not_null, one_of, partial_index

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    not_null("tenant", Text),
    not_null("url", Text),
    not_null("description", Text, default=""),
    not_null("events", ARRAY(Text), comment="the types it wants"),
    not_null("secret", Text, comment="whsec_..., or with a face the value of a header, or empty"),
    Column("old_secret", Text, comment="signs too, until it expires"),
    Column("old_secret_until", TIME),
    not_null("listed", Boolean, comment="false: made for jobs that name its URL"),
    Column("face", JSONB, comment="of a dialect, in whose form it is told; null: the native one"),
    Column("digest", Text, comment="of the URL, secret and face of one that is not listed"),
    not_null("enabled", Boolean, default=text("true")),
    Column("disabled_reason", Text),
    Column("failing_since", TIME),
    not_null("host", Text, comment="of the URL; all endpoints of a host share its slots"),
    not_null(
        "prompt",
        Boolean,
        default=text("false"),
        comment="whether the last attempt was over soon; one that hangs has fewer slots",
    ),
    not_null("created_at", TIME, default=func.now()),
    partial_index("ix_webhook_endpoints_listed", "tenant id", where="listed"),
    partial_index(
        "uq_webhook_endpoints_unlisted", "tenant digest", where="NOT listed", unique=True
    ),
)

webhook_events = Table(
    "webhook_events",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="the webhook-id header"),
    not_null("tenant", Text),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), comment="null for test events"),
    Column("batch_id", ForeignKey("batches.id"), comment="whose end this is, with that of a job"),
    not_null("run", Integer, comment="the job's, of which this is the end"),
    not_null("type", Text),
    not_null("body", Text, comment="as sent, to the byte"),
    not_null("created_at", TIME, default=func.now()),
    partial_index("uq_webhook_events_jobs", "job_id run", where="batch_id IS NULL", unique=True),
    partial_index(
        "uq_webhook_events_batches", "batch_id", where="batch_id IS NOT NULL", unique=True
    ),
    partial_index("ix_webhook_events_tests", "created_at", where="job_id IS NULL"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="UUIDv7: sorts by creation"),
    not_null("tenant", Text),
    not_null("event_id", ForeignKey("webhook_events.id", ondelete="CASCADE")),
    not_null("endpoint_id", ForeignKey("webhook_endpoints.id", ondelete="CASCADE")),
    not_null("state", Text, default="pending"),
    Column("error", Text, comment="why it failed"),
    not_null("created_at", TIME, default=func.now()),
    Column("finished_at", TIME),
    one_of("state", DeliveryState),
    UniqueConstraint("event_id", "endpoint_id"),
    Index(None, "tenant", "id"),
    Index(None, "endpoint_id", "id"),
)

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column(
        "delivery_id",
        ForeignKey("webhook_deliveries.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("status_code", Integer, comment="null: there was no answer"),
    not_null("latency_ms", REAL),
    Column("error", Text, comment="why it counts as failed"),
    not_null("at", TIME, default=func.now()),
)
