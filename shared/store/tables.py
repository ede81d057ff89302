"""The tables."""

from enum import StrEnum

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB, UUID

from shared.store.states import DeliveryState, JobState, StepKind, StepState


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    allowed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({allowed})", name=column)


def _timestamp(
    name: str, *, nullable: bool = True, default_now: bool = False, comment: str | None = None
) -> Column[object]:
    return Column(
        name,
        DateTime(timezone=True),
        nullable=nullable,
        server_default=func.now() if default_now else None,
        comment=comment,
    )


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="UUIDv7: sorts by creation"),
    Column("tenant", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("model", Text, nullable=False, comment="catalogue id"),
    Column("options", JSONB, nullable=False, comment="shared.models.options.ResolvedOptions"),
    Column("fingerprint", Text, comment="of audio, model and options; null: not to be shared"),
    Column(
        "original_id",
        ForeignKey("jobs.id", ondelete="SET NULL"),
        comment="the equal job whose transcript this one gets",
    ),
    Column("cached", Boolean, nullable=False, server_default=text("false")),
    # JSON, not JSONB: it comes back as it was given.
    Column("metadata", JSON, nullable=False, server_default=text("'{}'::json")),
    Column("result_url", Text, comment="what its webhook events tell; null: its path alone"),
    Column(
        "webhook_endpoint_id",
        ForeignKey("webhook_endpoints.id", ondelete="SET NULL"),
        comment="of the webhook_url that the job itself named",
    ),
    Column("run", Integer, nullable=False, server_default="1", comment="raised by every retry"),
    Column("detected_language", Text, comment="of the whole, where one was to be detected"),
    Column("detected_probability", REAL),
    Column("source_key", Text, nullable=False),
    Column("source_name", Text, nullable=False),
    Column("source_bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("duration_s", Double, comment="decoded length, known once prepared"),
    Column("priority", Integer, nullable=False, server_default="0", comment="highest first"),
    Column("chunks_total", Integer, nullable=False, server_default="0"),
    Column("chunks_done", Integer, nullable=False, server_default="0"),
    Column("plan_complete", Boolean, nullable=False, server_default=text("false")),
    Column("audio_planned_s", Double, nullable=False, server_default="0", comment="of all chunks"),
    Column(
        "planned_share",
        Double,
        nullable=False,
        server_default="0",
        comment="of the whole audio, planned; estimated until plan_complete",
    ),
    Column("audio_done_s", Double, nullable=False, server_default="0"),
    Column("percent_done", Double, comment="the most that could be said so far; never falls"),
    Column(
        "audio_kept_s",
        Double,
        nullable=False,
        server_default="0",
        comment="of audio_done_s: from before transcribing_since, by earlier runs",
    ),
    _timestamp("transcribing_since"),
    Column("error_code", Text),
    Column("error_detail", Text),
    Column("metrics", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    # JSON, not JSONB: it names every chunk, and Postgres would take it apart whole, in memory.
    Column("manifest", JSON, comment="shared.speech.manifest.Manifest, of the transcript"),
    Column("transcript_id", ForeignKey("transcripts.id"), comment="equal jobs share one"),
    Column("reference", Text, comment="what was really said, as the client says"),
    Column("accuracy", JSONB, comment="shared.speech.accuracy.Accuracy, against the reference"),
    Column(
        "first_event",
        BigInteger,
        nullable=False,
        comment="id of the event of its creation; a tenant's jobs are listed by it",
    ),
    Column(
        "last_event",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="id of the latest event that those who watch the job see",
    ),
    _timestamp("created_at", nullable=False, default_now=True),
    _timestamp("started_at"),
    _timestamp("finished_at"),
    _timestamp("audio_deleted_at"),
    _timestamp("transcript_deleted_at"),
    _one_of("state", JobState),
    Index(None, "tenant", "first_event"),
    Index("ix_jobs_active", "id", postgresql_where=text("state IN ('queued', 'running')")),
    Index(
        "ix_jobs_original",
        *("tenant", "fingerprint"),
        postgresql_where=text(
            "original_id IS NULL AND state IN ('queued', 'running', 'succeeded')"
        ),
    ),
    Index(None, "original_id", postgresql_where=text("original_id IS NOT NULL")),
    Index(None, "transcript_id"),
    Index(None, "webhook_endpoint_id", postgresql_where=text("webhook_endpoint_id IS NOT NULL")),
    Index("ix_jobs_ended", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
    Index(
        "ix_jobs_with_audio",
        *("state", "finished_at"),
        postgresql_where=text("audio_deleted_at IS NULL AND finished_at IS NOT NULL"),
    ),
    Index(
        "ix_jobs_with_transcript",
        "finished_at",
        postgresql_where=text("transcript_id IS NOT NULL"),
    ),
    Index(
        "ix_jobs_unmeasured",
        "id",
        postgresql_where=text("state = 'succeeded' AND reference IS NOT NULL AND accuracy IS NULL"),
    ),
)

steps = Table(
    "steps",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("idx", Integer, nullable=False, comment="the number of a chunk or a delivery; else 0"),
    Column("queue", Text, nullable=False),
    Column("tenant", Text, nullable=False, comment="its job's"),
    Column(
        "rank",
        Integer,
        nullable=False,
        comment="lowest first: minus its job's priority, least if its worker was lost",
    ),
    Column(
        "job_turn",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="orders the jobs of a tenant (shared.store.successors)",
    ),
    Column(
        "tenant_turn",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="orders the tenants of a queue (shared.store.successors)",
    ),
    Column("lane", Text, comment="of a deliver step: its endpoint, which takes only a few at once"),
    Column("state", Text, nullable=False, server_default="queued"),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("max_attempts", Integer, nullable=False),
    Column(
        "outages",
        Integer,
        nullable=False,
        server_default="0",
        comment="claims given back because a service was away; not among the attempts",
    ),
    Column("epoch", Integer, nullable=False, server_default="0", comment="raised by every claim"),
    Column("lease_owner", Text),
    _timestamp("lease_until"),
    _timestamp("run_at", nullable=False, default_now=True),
    _timestamp("claimed_at"),
    _timestamp("finished_at"),
    Column("input", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("audio", LargeBinary, comment="of a short file's chunk: samples, s16le"),
    Column("output", JSONB),
    Column("timings", JSONB),
    Column("error_code", Text),
    Column("error_detail", Text),
    Column("bug", Text, comment="fingerprint of the unexpected error that ended the last attempt"),
    Column("event_id", BigInteger, comment="of a done chunk: its place among the job's events"),
    _one_of("kind", StepKind),
    _one_of("state", StepState),
    UniqueConstraint("job_id", "kind", "idx"),
    Index(
        "ix_steps_turns",
        *("queue", "tenant_turn", "id"),
        postgresql_include=["tenant", "run_at"],
        postgresql_where=text("kind <> 'deliver' AND state = 'queued'"),
    ),
    Index(
        "ix_steps_turns_of_tenants",
        *("queue", "tenant", "tenant_turn"),
        postgresql_where=text("kind <> 'deliver' AND state = 'queued'"),
    ),
    Index(
        "ix_steps_waiting",
        *("queue", "tenant", "rank", "job_turn", "job_id", "idx", "run_at"),
        postgresql_where=text("kind <> 'deliver' AND state = 'queued'"),
    ),
    Index(
        "ix_steps_waiting_in_lanes",
        *("lane", "run_at"),
        postgresql_where=text("lane IS NOT NULL AND state = 'queued'"),
    ),
    Index(
        "ix_steps_running",
        *("queue", "lease_until"),
        postgresql_where=text("state = 'running'"),
    ),
    Index("ix_steps_due", "queue", "run_at", postgresql_where=text("state = 'queued'")),
    Index("ix_steps_events", "job_id", "event_id", postgresql_where=text("event_id IS NOT NULL")),
)

event_ids = Sequence("event_ids", metadata=metadata)
"""Of ``job_events`` and of done chunks: the events of a job have one order."""

job_events = Table(
    "job_events",
    metadata,
    Column(
        "id", BigInteger, event_ids, server_default=text("nextval('event_ids')"), primary_key=True
    ),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("step_id", BigInteger, comment="null for a change of the job itself"),
    Column("event", Text, nullable=False),
    Column("attempt", Integer),
    Column("epoch", Integer),
    Column("worker", Text),
    Column("detail", Text),
    Column(
        "at",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("clock_timestamp()"),
    ),
    Index(None, "job_id", "id"),
    comment="Append-only: changes of jobs' states, and attempts at steps that failed.",
)

transcripts = Table(
    "transcripts",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="of the job that made it"),
    Column("header", JSONB, nullable=False, comment="shared.speech.transcript.TranscriptHeader"),
    _timestamp("created_at", nullable=False, default_now=True),
)

transcript_segments = Table(
    "transcript_segments",
    metadata,
    Column("transcript_id", ForeignKey("transcripts.id", ondelete="CASCADE"), primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("document", JSONB, nullable=False, comment="shared.speech.transcript.Segment"),
    comment="One row per segment: a long transcript is written and read in pieces.",
)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("role", Text, nullable=False, comment="cpu, model, deliver or beat"),
    Column("model", Text, comment="catalogue id of a model worker"),
    Column("queues", ARRAY(Text), nullable=False),
    Column("slots", Integer, nullable=False, comment="claims it works on at once"),
    Column("state", Text, nullable=False, comment="loading or ready"),
    Column("device", Text, nullable=False),
    Column("dtype", Text, comment="what a model worker's device computes in"),
    Column("version", Text, nullable=False),
    Column("load_s", REAL, comment="seconds the model took to load"),
    Column("warm_up_s", REAL, comment="seconds its first second of audio took"),
    Column(
        "suspect_step",
        BigInteger,
        comment="the step its model hears alone now, as an attempt before this one has failed",
    ),
    _timestamp("started_at", nullable=False, default_now=True),
    _timestamp("last_seen_at", nullable=False, default_now=True),
)

worker_kinds = Table(
    "worker_kinds",
    metadata,
    Column("worker_id", ForeignKey("workers.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("proven", Boolean, nullable=False, comment="whether it has done such a step"),
    Column("bug", Text, comment="fingerprint of the unexpected error that it met last"),
    Column("failures", Integer, nullable=False, comment="how often in a row, before it is proven"),
    Column("reason", Text, comment="the same for people"),
    _one_of("kind", StepKind),
    comment="What became of each kind of step at a worker, since the worker's start.",
)

served_queues = Table(
    "served_queues",
    metadata,
    Column("queue", Text, primary_key=True),
    _timestamp("last_served_at", nullable=False),
    comment="When a worker that is gone last served a queue; the living are in workers.",
)

removals = Table(
    "removals",
    metadata,
    Column("prefix", Text, primary_key=True, comment="all objects whose keys begin with it"),
    _timestamp("due_at", nullable=False),
    Column(
        "again_at",
        DateTime(timezone=True),
        comment="when to remove once more what was written late",
    ),
    Column("taken_at", DateTime(timezone=True), comment="when it was last tried"),
    Index(None, "due_at"),
    comment="What the sweeper removes from the object store, unless it is taken back before.",
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("events", ARRAY(Text), nullable=False, comment="the types it wants"),
    Column("secret", Text, nullable=False, comment="whsec_..."),
    Column("old_secret", Text, comment="signs too, until it expires"),
    _timestamp("old_secret_until"),
    Column("listed", Boolean, nullable=False, comment="false: made for jobs that name its URL"),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("disabled_reason", Text),
    _timestamp("failing_since"),
    _timestamp("created_at", nullable=False, default_now=True),
    Index("ix_webhook_endpoints_listed", "tenant", "id", postgresql_where=text("listed")),
    Index(
        "uq_webhook_endpoints_unlisted",
        *("tenant", "url", "secret"),
        unique=True,
        postgresql_where=text("NOT listed"),
    ),
)

webhook_events = Table(
    "webhook_events",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="the webhook-id header"),
    Column("tenant", Text, nullable=False),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), comment="null for test events"),
    Column("run", Integer, nullable=False, comment="the job's, of which this is the end"),
    Column("type", Text, nullable=False),
    Column("body", Text, nullable=False, comment="as sent, to the byte"),
    _timestamp("created_at", nullable=False, default_now=True),
    UniqueConstraint("job_id", "run"),
    Index("ix_webhook_events_tests", "created_at", postgresql_where=text("job_id IS NULL")),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="UUIDv7: sorts by creation"),
    Column("tenant", Text, nullable=False),
    Column("event_id", ForeignKey("webhook_events.id", ondelete="CASCADE"), nullable=False),
    Column(
        "endpoint_id",
        ForeignKey("webhook_endpoints.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("error", Text, comment="why it failed"),
    _timestamp("created_at", nullable=False, default_now=True),
    _timestamp("finished_at"),
    _one_of("state", DeliveryState),
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
    Column("latency_ms", REAL, nullable=False),
    Column("error", Text, comment="why it counts as failed"),
    _timestamp("at", nullable=False, default_now=True),
)
