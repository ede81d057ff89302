"""Tenants, their keys, and what they used."""

from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    Double,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from shared.store.tables.schema import TIME, metadata, not_null

tenants = Table(
    "tenants",
    metadata,
    Column("id", Text, primary_key=True),
    not_null("name", Text),
    not_null("created_at", TIME, default=func.now()),
    not_null(
        "limits",
        JSONB,
        default=text("'{}'::jsonb"),
        comment="what differs from the platform's defaults",
    ),
    # '*' stands for every tenant in the policies of row-level security.
    CheckConstraint("id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'", name="id"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="UUIDv7: sorts by creation"),
    Column("tenant", ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False, index=True),
    not_null("name", Text, comment="for people"),
    not_null("sha256", LargeBinary, comment="of the whole key, which is not stored"),
    not_null("scopes", ARRAY(Text)),
    not_null("created_at", TIME, default=func.now()),
    Column("expires_at", TIME, comment="null: never"),
    Column("last_used_at", TIME, comment="to the minute"),
    Column("revoked_at", TIME),
    UniqueConstraint("sha256"),
)


def _usage() -> list[Column[Any]]:
    return [
        not_null("jobs", BigInteger, default="0", comment="that ended for the first time"),
        not_null("audio_s", Double, default="0"),
        not_null("model_s", Double, default="0"),
        not_null("live_s", Double, default="0"),
    ]


usage = Table(
    "usage",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("day", Date, primary_key=True, comment="UTC"),
    *_usage(),
    Index(None, "day"),
    comment="What tenants used, without what is in usage_entries still.",
)

usage_entries = Table(
    "usage_entries",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    not_null("tenant", Text),
    not_null("day", Date),
    *_usage(),
    Index(None, "tenant", "day"),
    comment="What tenants used, until it is added to usage: jobs that end wait for no common row.",
)
