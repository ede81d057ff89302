"""The tables, and what each state means.

Job: ``queued -> running -> succeeded | failed | canceled``.
Step: ``queued -> running -> done | failed``, and ``running -> queued`` on reap, retry or release.
"""

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
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID


class JobState(StrEnum):
    """Where a job is. A terminal state is left only by an explicit retry of its owner."""

    QUEUED = "queued"
    """Committed, nothing started. Entered by ``create_job``, left by the first claim; a crash
    leaves it here and the sweeper rings for it again. A job whose original is being transcribed
    has no steps and waits here for the original's end."""
    RUNNING = "running"
    """At least one step was claimed. Left by ``finish`` or by the first step that fails for good;
    a crash of a worker does not change it."""
    SUCCEEDED = "succeeded"
    """Terminal: the transcript is stored, in the same transaction by ``finish``. Entered by
    ``create_job`` where the same was transcribed before."""
    FAILED = "failed"
    """Terminal: the error says why. Entered when a step fails for good."""
    CANCELED = "canceled"
    """Terminal: its owner stopped it. Entered by ``cancel_job``; workers find their leases void."""


ACTIVE_JOB_STATES = (JobState.QUEUED, JobState.RUNNING)


class StepState(StrEnum):
    """Where a step is. Steps left over when a job ends stay as they are: no claim takes them."""

    QUEUED = "queued"
    """Waits for a worker. Entered on creation, and from running by reap, retry and release; left
    by a claim. A crash changes nothing: its message is sent again."""
    RUNNING = "running"
    """A worker holds its lease. Entered by a claim; when the worker dies the lease expires and the
    sweeper puts the step back to queued."""
    DONE = "done"
    """Its output is stored. Entered by the completion of the worker whose epoch is current."""
    FAILED = "failed"
    """A permanent error, or attempts exhausted; its job failed in the same transaction."""


class StepKind(StrEnum):
    """The kinds of step, each a Celery task of the same name."""

    PREPARE = "prepare"
    DETECT = "detect"
    TRANSCRIBE = "transcribe"
    FINISH = "finish"


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    allowed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({allowed})", name=column)


def _timestamp(name: str, *, nullable: bool = True, default_now: bool = False) -> Column[object]:
    server_default = func.now() if default_now else None
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=server_default)


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
    Column("options", JSONB, nullable=False, comment="shared.options.ResolvedOptions"),
    Column("fingerprint", Text, comment="of audio, model and options; null: not to be shared"),
    Column(
        "original_id",
        ForeignKey("jobs.id", ondelete="SET NULL"),
        comment="the equal job whose transcript this one gets",
    ),
    Column("cached", Boolean, nullable=False, server_default=text("false")),
    Column("detected_language", Text, comment="of the whole, where one was to be detected"),
    Column("detected_probability", REAL),
    Column("source_key", Text, nullable=False),
    Column("source_name", Text, nullable=False),
    Column("source_bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("duration_s", Double, comment="decoded length, known once prepared"),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("chunks_total", Integer, nullable=False, server_default="0"),
    Column("chunks_done", Integer, nullable=False, server_default="0"),
    Column("plan_complete", Boolean, nullable=False, server_default=text("false")),
    Column("audio_done_s", Double, nullable=False, server_default="0"),
    Column("error_code", Text),
    Column("error_detail", Text),
    Column("metrics", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("manifest", JSONB, comment="what it takes to explain and repeat the transcript"),
    Column("transcript_id", ForeignKey("transcripts.id"), comment="equal jobs share one"),
    Column("reference", Text, comment="what was really said, as the client says"),
    Column("accuracy", JSONB, comment="shared.accuracy.Accuracy, against the reference"),
    _timestamp("created_at", nullable=False, default_now=True),
    _timestamp("started_at"),
    _timestamp("finished_at"),
    _one_of("state", JobState),
    Index(None, "tenant", "id"),
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
    Column("idx", Integer, nullable=False, comment="the chunk's number; 0 for other kinds"),
    Column("queue", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="queued"),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("max_attempts", Integer, nullable=False),
    Column("epoch", Integer, nullable=False, server_default="0", comment="raised by every claim"),
    Column("lease_owner", Text),
    _timestamp("lease_until"),
    _timestamp("run_at", nullable=False, default_now=True),
    _timestamp("dispatched_at"),
    _timestamp("claimed_at"),
    _timestamp("finished_at"),
    Column("input", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("output", JSONB),
    Column("timings", JSONB),
    Column("error_code", Text),
    Column("error_detail", Text),
    _one_of("kind", StepKind),
    _one_of("state", StepState),
    UniqueConstraint("job_id", "kind", "idx"),
    Index(
        "ix_steps_waiting",
        *("job_id", "queue", "idx"),
        postgresql_where=text("state = 'queued' AND dispatched_at IS NULL"),
    ),
    Index(
        "ix_steps_in_flight",
        *("queue", "job_id"),
        postgresql_where=text(
            "state = 'running' OR state = 'queued' AND dispatched_at IS NOT NULL"
        ),
    ),
    Index("ix_steps_leased", "lease_until", postgresql_where=text("state = 'running'")),
    Index("ix_steps_queue_claimed_at", "queue", "claimed_at"),
)

job_events = Table(
    "job_events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
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
    comment="Append-only: one row per change of a job or a step.",
)

transcripts = Table(
    "transcripts",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="of the job that made it"),
    Column("header", JSONB, nullable=False, comment="shared.transcript.TranscriptHeader"),
    _timestamp("created_at", nullable=False, default_now=True),
)

transcript_segments = Table(
    "transcript_segments",
    metadata,
    Column("transcript_id", ForeignKey("transcripts.id", ondelete="CASCADE"), primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("document", JSONB, nullable=False, comment="shared.transcript.Segment"),
    comment="One row per segment: a long transcript is written and read in pieces.",
)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("role", Text, nullable=False, comment="cpu, model or beat"),
    Column("model", Text, comment="catalogue id of a model worker"),
    Column("queues", ARRAY(Text), nullable=False),
    Column("slots", Integer, nullable=False, comment="steps it takes at once"),
    Column("state", Text, nullable=False, comment="loading or ready"),
    Column("device", Text, nullable=False),
    Column("dtype", Text, comment="what a model worker's device computes in"),
    Column("version", Text, nullable=False),
    Column("load_s", REAL, comment="seconds the model took to load"),
    Column("warm_up_s", REAL, comment="seconds its first second of audio took"),
    _timestamp("started_at", nullable=False, default_now=True),
    _timestamp("last_seen_at", nullable=False, default_now=True),
)
