"""Steps: what workers claim."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from shared.store.states import StepKind, StepState
from shared.store.tables.schema import TIME, metadata, not_null, one_of, partial_index

steps = Table(
    "steps",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    not_null("job_id", ForeignKey("jobs.id", ondelete="CASCADE")),
    not_null("kind", Text),
    not_null("idx", Integer, comment="the number of a chunk or a delivery; else 0"),
    not_null("queue", Text),
    not_null("tenant", Text, comment="its job's"),
    not_null(
        "rank",
        Integer,
        comment="lowest first: minus its job's priority, least if its worker was lost",
    ),
    not_null(
        "job_turn",
        BigInteger,
        default="0",
        comment="orders the jobs of a tenant (shared.store.successors)",
    ),
    not_null(
        "tenant_turn",
        BigInteger,
        default="0",
        comment="orders the tenants of a queue (shared.store.successors)",
    ),
    Column("lane", Text, comment="of a deliver step: its endpoint, which takes only a few at once"),
    not_null("state", Text, default="queued"),
    not_null("attempt", Integer, default="0"),
    not_null("max_attempts", Integer),
    not_null(
        "outages",
        Integer,
        default="0",
        comment="claims given back because a service was away; not among the attempts",
    ),
    not_null("epoch", Integer, default="0", comment="raised by every claim"),
    Column("lease_owner", Text),
    Column("lease_until", TIME),
    not_null("run_at", TIME, default=func.now()),
    Column("claimed_at", TIME),
    Column("finished_at", TIME),
    not_null("input", JSONB, default=text("'{}'::jsonb")),
    Column("audio", LargeBinary, comment="of a short file's chunk: samples, s16le"),
    Column("output", JSONB),
    Column("timings", JSONB),
    Column("error_code", Text),
    Column("error_detail", Text),
    Column("bug", Text, comment="fingerprint of the unexpected error that ended the last attempt"),
    Column("event_id", BigInteger, comment="of a done chunk: its place among the job's events"),
    one_of("kind", StepKind),
    one_of("state", StepState),
    UniqueConstraint("job_id", "kind", "idx"),
    partial_index(
        "ix_steps_turns",
        "queue tenant_turn id",
        where="kind <> 'deliver' AND state = 'queued'",
        postgresql_include=["tenant", "run_at"],
    ),
    partial_index(
        "ix_steps_turns_of_tenants",
        "queue tenant tenant_turn",
        where="kind <> 'deliver' AND state = 'queued'",
    ),
    partial_index(
        "ix_steps_waiting",
        "queue tenant rank job_turn job_id idx run_at",
        where="kind <> 'deliver' AND state = 'queued'",
    ),
    partial_index(
        "ix_steps_waiting_in_lanes", "lane run_at", where="lane IS NOT NULL AND state = 'queued'"
    ),
    partial_index("ix_steps_running", "queue lease_until", where="state = 'running'"),
    partial_index("ix_steps_due", "queue run_at", where="state = 'queued'"),
    partial_index("ix_steps_events", "job_id event_id", where="event_id IS NOT NULL"),
)
