"""The tables."""

from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Date,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
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
from sqlalchemy.dialects.postgresql import JSON, JSONB, TSVECTOR, UUID

from shared.store.states import DeliveryState, JobState, StepKind, StepState, UploadState


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    allowed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({allowed})", name=column)


def _not_null(
    name: str, kind: Any, *, default: Any = None, comment: str | None = None, index: bool = False
) -> Column[Any]:
    return Column(
        name, kind, nullable=False, server_default=default, comment=comment, index=index or None
    )


def _partial_index(name: str | None, columns: str, *, where: str, **options: Any) -> Index:
    return Index(name, *columns.split(), postgresql_where=text(where), **options)


_TIME = DateTime(timezone=True)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

tenants = Table(
    "tenants",
    metadata,
    Column("id", Text, primary_key=True),
    _not_null("name", Text),
    _not_null("created_at", _TIME, default=func.now()),
    _not_null(
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
    _not_null("name", Text, comment="for people"),
    _not_null("sha256", LargeBinary, comment="of the whole key, which is not stored"),
    _not_null("scopes", ARRAY(Text)),
    _not_null("created_at", _TIME, default=func.now()),
    Column("expires_at", _TIME, comment="null: never"),
    Column("last_used_at", _TIME, comment="to the minute"),
    Column("revoked_at", _TIME),
    UniqueConstraint("sha256"),
)

batches = Table(
    "batches",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="UUIDv7: sorts by creation"),
    _not_null("tenant", Text),
    Column("jobs", Integer, comment="how many were created with it; null while they are"),
    Column(
        "webhook_endpoint_id",
        ForeignKey("webhook_endpoints.id", ondelete="SET NULL"),
        comment="of the webhook_url that the batch itself named",
    ),
    Column("result_url", Text, comment="what its webhook event tells; null: its path alone"),
    _not_null("created_at", _TIME, default=func.now()),
    Column("completed_at", _TIME, comment="when all of its jobs had ended for the first time"),
    _partial_index(None, "webhook_endpoint_id", where="webhook_endpoint_id IS NOT NULL"),
    comment="Jobs that were submitted together.",
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    _not_null("holder", UUID(as_uuid=True), comment="the request that works on the answer"),
    _not_null("held_until", _TIME, comment="renewed by the holder"),
    Column("fingerprint", Text, comment="of the request; null until it is answered"),
    Column("answer", JSONB, comment="what the request has made"),
    _not_null("created_at", _TIME, default=func.now()),
    Index(None, "created_at"),
    comment="Requests that clients may repeat: each makes its jobs once.",
)

jobs = Table(
    "jobs",
    metadata,
    Column(
        "id",
        UUID(as_uuid=True),
        primary_key=True,
        comment="UUIDv7: sorts by when the upload began",
    ),
    _not_null("tenant", Text),
    _not_null("state", Text),
    _not_null("model", Text, comment="catalogue id"),
    _not_null("options", JSONB, comment="shared.models.options.ResolvedOptions"),
    Column("fingerprint", Text, comment="of audio, model and options; null: not to be shared"),
    Column(
        "original_id",
        ForeignKey("jobs.id", ondelete="SET NULL"),
        comment="the equal job whose transcript this one gets",
    ),
    _not_null("cached", Boolean, default=text("false")),
    # JSON, not JSONB: it is returned as it was given.
    _not_null("metadata", JSON, default=text("'{}'::json")),
    Column("batch_id", ForeignKey("batches.id"), comment="null: it was submitted alone"),
    Column("result_url", Text, comment="what its webhook events tell; null: its path alone"),
    Column(
        "webhook_endpoint_id",
        ForeignKey("webhook_endpoints.id", ondelete="SET NULL"),
        comment="of the webhook_url that the job itself named",
    ),
    _not_null("run", Integer, default="1", comment="raised by every retry"),
    Column("detected_language", Text, comment="of the whole, where one was to be detected"),
    Column("detected_probability", REAL),
    # A column, since conditions on JSON cannot use an index under row-level security.
    Column(
        "language",
        Text,
        Computed("coalesce(detected_language, options ->> 'language')", persisted=True),
        comment="given or detected",
    ),
    Column(
        "upload_id",
        ForeignKey("uploads.id", ondelete="SET NULL"),
        comment="the upload whose object is its source",
    ),
    _not_null("source_key", Text),
    _not_null("source_name", Text),
    Column("source_bytes", BigInteger, comment="null until it is fetched"),
    Column("sha256", Text, comment="null until it is fetched"),
    Column("audio_url", Text, comment="where it is fetched from; without what may be a secret"),
    Column("fetched_bytes", BigInteger, comment="of the file, while it is fetched"),
    Column("fetch_total_bytes", BigInteger, comment="of the file, as its server says"),
    Column("duration_s", Double, comment="decoded length, known once prepared"),
    _not_null("priority", Integer, default="0", comment="highest first"),
    _not_null("chunks_total", Integer, default="0"),
    _not_null("chunks_done", Integer, default="0"),
    _not_null("plan_complete", Boolean, default=text("false")),
    _not_null("audio_planned_s", Double, default="0", comment="of all chunks"),
    _not_null(
        "planned_share",
        Double,
        default="0",
        comment="of the whole audio, planned; estimated until plan_complete",
    ),
    _not_null("audio_done_s", Double, default="0"),
    Column("percent_done", Double, comment="the most that could be said so far; never falls"),
    _not_null(
        "audio_kept_s",
        Double,
        default="0",
        comment="of audio_done_s: from before transcribing_since, by earlier runs",
    ),
    Column("transcribing_since", _TIME),
    _not_null("counted_audio_s", Double, default="0", comment="of its audio, in usage already"),
    _not_null("counted_model_s", Double, default="0", comment="of model time, in usage already"),
    Column("error_code", Text),
    Column("error_detail", Text),
    _not_null("metrics", JSONB, default=text("'{}'::jsonb")),
    # JSON, not JSONB: it names every chunk, and Postgres would parse all of it in memory.
    Column("manifest", JSON, comment="shared.speech.manifest.Manifest, of the transcript"),
    Column("transcript_id", ForeignKey("transcripts.id"), comment="equal jobs share one"),
    Column("reference", Text, comment="what was really said, as the client says"),
    Column(
        "live_text",
        Text,
        comment="what a live session told of its audio; deleted with the transcript",
    ),
    Column("accuracy", JSONB, comment="shared.speech.accuracy.Accuracy, against the reference"),
    _not_null(
        "first_event",
        BigInteger,
        comment="id of the event of its creation; a tenant's jobs are listed by it",
    ),
    _not_null(
        "last_event",
        BigInteger,
        default="0",
        comment="id of the latest event that those who watch the job see",
    ),
    _not_null("created_at", _TIME, default=func.now()),
    Column("started_at", _TIME),
    Column("finished_at", _TIME),
    Column("audio_deleted_at", _TIME),
    Column("transcript_deleted_at", _TIME),
    Column("peaks", LargeBinary, comment="of its audio: worker.media.peaks"),
    Column(
        "listening_bytes", BigInteger, comment="size of its listening copy; null: there is none"
    ),
    Column(
        "speakers",
        JSONB,
        comment="shared.speech.speakers.revision.Revision; deleted with the transcript",
    ),
    _one_of("state", JobState),
    Index(None, "tenant", "first_event"),
    Index("ix_jobs_of_model", "tenant", "model", "first_event"),
    Index("ix_jobs_of_language", "tenant", "language", "first_event"),
    Index(None, "tenant", "created_at"),
    _partial_index("ix_jobs_active", "id", where="state IN ('queued', 'running')"),
    _partial_index(
        "ix_jobs_active_of_tenant", "tenant first_event", where="state IN ('queued', 'running')"
    ),
    _partial_index(
        "ix_jobs_ended_of_tenant",
        "tenant state first_event",
        where="state IN ('succeeded', 'failed', 'canceled')",
    ),
    _partial_index(
        "ix_jobs_original",
        "tenant fingerprint",
        where="original_id IS NULL AND state IN ('queued', 'running', 'succeeded')",
    ),
    _partial_index(None, "original_id", where="original_id IS NOT NULL"),
    Index(None, "transcript_id"),
    _partial_index(None, "webhook_endpoint_id", where="webhook_endpoint_id IS NOT NULL"),
    _partial_index(None, "batch_id first_event", where="batch_id IS NOT NULL"),
    _partial_index(
        "ix_jobs_active_of_batch",
        "batch_id",
        where="batch_id IS NOT NULL AND state IN ('queued', 'running')",
    ),
    _partial_index(None, "upload_id", where="upload_id IS NOT NULL"),
    _partial_index("ix_jobs_ended", "finished_at", where="finished_at IS NOT NULL"),
    _partial_index(
        "ix_jobs_with_audio",
        "state finished_at",
        where="audio_deleted_at IS NULL AND finished_at IS NOT NULL",
    ),
    _partial_index(
        "ix_jobs_refused",
        "error_code finished_at",
        where="audio_deleted_at IS NULL AND state = 'failed'",
    ),
    _partial_index("ix_jobs_with_listening", "finished_at", where="listening_bytes IS NOT NULL"),
    _partial_index("ix_jobs_with_transcript", "finished_at", where="transcript_id IS NOT NULL"),
    _partial_index(
        "ix_jobs_unmeasured",
        "id",
        where="state = 'succeeded' AND reference IS NOT NULL AND accuracy IS NULL",
    ),
)

job_metadata = Table(
    "job_metadata",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("first_event", BigInteger, primary_key=True, comment="the job's"),
    _not_null("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), index=True),
    comment="Members of jobs' metadata by which jobs are found.",
)

calls = Table(
    "calls",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    _not_null("wanted_until", _TIME, comment="renewed while a client waits for the job's end"),
    comment="Jobs that the sweeper cancels once no client waits for them.",
)

steps = Table(
    "steps",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _not_null("job_id", ForeignKey("jobs.id", ondelete="CASCADE")),
    _not_null("kind", Text),
    _not_null("idx", Integer, comment="the number of a chunk or a delivery; else 0"),
    _not_null("queue", Text),
    _not_null("tenant", Text, comment="its job's"),
    _not_null(
        "rank",
        Integer,
        comment="lowest first: minus its job's priority, least if its worker was lost",
    ),
    _not_null(
        "job_turn",
        BigInteger,
        default="0",
        comment="orders the jobs of a tenant (shared.store.successors)",
    ),
    _not_null(
        "tenant_turn",
        BigInteger,
        default="0",
        comment="orders the tenants of a queue (shared.store.successors)",
    ),
    Column("lane", Text, comment="of a deliver step: its endpoint, which takes only a few at once"),
    _not_null("state", Text, default="queued"),
    _not_null("attempt", Integer, default="0"),
    _not_null("max_attempts", Integer),
    _not_null(
        "outages",
        Integer,
        default="0",
        comment="claims given back because a service was away; not among the attempts",
    ),
    _not_null("epoch", Integer, default="0", comment="raised by every claim"),
    Column("lease_owner", Text),
    Column("lease_until", _TIME),
    _not_null("run_at", _TIME, default=func.now()),
    Column("claimed_at", _TIME),
    Column("finished_at", _TIME),
    _not_null("input", JSONB, default=text("'{}'::jsonb")),
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
    _partial_index(
        "ix_steps_turns",
        "queue tenant_turn id",
        where="kind <> 'deliver' AND state = 'queued'",
        postgresql_include=["tenant", "run_at"],
    ),
    _partial_index(
        "ix_steps_turns_of_tenants",
        "queue tenant tenant_turn",
        where="kind <> 'deliver' AND state = 'queued'",
    ),
    _partial_index(
        "ix_steps_waiting",
        "queue tenant rank job_turn job_id idx run_at",
        where="kind <> 'deliver' AND state = 'queued'",
    ),
    _partial_index(
        "ix_steps_waiting_in_lanes", "lane run_at", where="lane IS NOT NULL AND state = 'queued'"
    ),
    _partial_index("ix_steps_running", "queue lease_until", where="state = 'running'"),
    _partial_index("ix_steps_due", "queue run_at", where="state = 'queued'"),
    _partial_index("ix_steps_events", "job_id event_id", where="event_id IS NOT NULL"),
)

event_ids = Sequence("event_ids", metadata=metadata)
"""Shared by ``job_events`` and done chunks, so that all events of a job have one order."""

job_events = Table(
    "job_events",
    metadata,
    Column(
        "id", BigInteger, event_ids, server_default=text("nextval('event_ids')"), primary_key=True
    ),
    _not_null("job_id", ForeignKey("jobs.id", ondelete="CASCADE")),
    Column("step_id", BigInteger, comment="null for a change of the job itself"),
    _not_null("event", Text),
    Column("attempt", Integer),
    Column("epoch", Integer),
    Column("worker", Text),
    Column("detail", Text),
    _not_null("at", _TIME, default=text("clock_timestamp()")),
    Index(None, "job_id", "id"),
    comment="Append-only: changes of jobs' states, and attempts at steps that failed.",
)


def _usage() -> list[Column[Any]]:
    return [
        _not_null("jobs", BigInteger, default="0", comment="that ended for the first time"),
        _not_null("audio_s", Double, default="0"),
        _not_null("model_s", Double, default="0"),
        _not_null("live_s", Double, default="0"),
    ]


usage = Table(
    "usage",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("day", Date, primary_key=True, comment="UTC"),
    *_usage(),
    comment="What tenants used, without what is in usage_entries still.",
)

usage_entries = Table(
    "usage_entries",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _not_null("tenant", Text),
    _not_null("day", Date),
    *_usage(),
    Index(None, "tenant", "day"),
    comment="What tenants used, until it is added to usage: jobs that end wait for no common row.",
)

transcripts = Table(
    "transcripts",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="of the job that made it"),
    _not_null("tenant", Text, comment="that job's, and all others' that share it"),
    _not_null("header", JSONB, comment="shared.speech.transcript.TranscriptHeader"),
    _not_null("created_at", _TIME, default=func.now()),
    UniqueConstraint("tenant", "id"),
)

transcript_segments = Table(
    "transcript_segments",
    metadata,
    Column("transcript_id", ForeignKey("transcripts.id", ondelete="CASCADE"), primary_key=True),
    Column("idx", Integer, primary_key=True),
    _not_null("document", JSONB, comment="shared.speech.transcript.Segment"),
    comment="One row per segment: a long transcript is written and read in pieces.",
)

corrections = Table(
    "corrections",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("revision", Integer, primary_key=True, comment="from 1"),
    _not_null("kind", Text, comment="correct, undo or redo"),
    _not_null("segment", Integer, comment="id of the segment"),
    _not_null("before", Text, comment="its text until then"),
    _not_null("after", Text, comment="its text since; empty: it is left out"),
    _not_null("created_at", _TIME, default=func.now()),
    CheckConstraint("kind IN ('correct', 'undo', 'redo')", name="kind"),
    Index(None, "job_id", "segment", "revision"),
    comment="The journal of corrections of a job's transcript; deleted with the transcript.",
)

transcript_terms = Table(
    "transcript_terms",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("transcript_id", UUID(as_uuid=True), primary_key=True),
    Column("idx", Integer, primary_key=True, comment="of the segment"),
    _not_null("terms", TSVECTOR, comment="each with the tenant before it (shared.store.search)"),
    ForeignKeyConstraint(
        ["tenant", "transcript_id"], ["transcripts.tenant", "transcripts.id"], ondelete="CASCADE"
    ),
    Index(None, "terms", postgresql_using="gin"),
    comment="What segments are found by.",
)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    _not_null("role", Text, comment="cpu, model, deliver or beat"),
    Column("model", Text, comment="catalogue id of a model worker"),
    _not_null("queues", ARRAY(Text)),
    _not_null("slots", Integer, comment="claims it works on at once"),
    _not_null("state", Text, comment="loading or ready"),
    _not_null("device", Text),
    Column("dtype", Text, comment="what a model worker's device computes in"),
    _not_null("version", Text),
    Column("load_s", REAL, comment="seconds the model took to load"),
    Column("warm_up_s", REAL, comment="seconds its first second of audio took"),
    Column("sandbox", JSONB, comment="what confines its decoders of media, and what does not"),
    Column(
        "suspect_step",
        BigInteger,
        comment="the step its model hears alone now, as an attempt before this one has failed",
    ),
    _not_null("started_at", _TIME, default=func.now()),
    _not_null("last_seen_at", _TIME, default=func.now()),
)

worker_kinds = Table(
    "worker_kinds",
    metadata,
    Column("worker_id", ForeignKey("workers.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", Text, primary_key=True),
    _not_null("proven", Boolean, comment="whether it has done such a step"),
    Column("bug", Text, comment="fingerprint of the unexpected error that it met last"),
    _not_null("failures", Integer, comment="how often in a row, before it is proven"),
    Column("reason", Text, comment="the same for people"),
    _one_of("kind", StepKind),
    comment="What became of each kind of step at a worker, since the worker's start.",
)

served_queues = Table(
    "served_queues",
    metadata,
    Column("queue", Text, primary_key=True),
    _not_null("last_served_at", _TIME),
    comment="When a worker that is gone last served a queue; the living are in workers.",
)

removals = Table(
    "removals",
    metadata,
    Column("prefix", Text, primary_key=True, comment="all objects whose keys begin with it"),
    _not_null("due_at", _TIME),
    Column(
        "again_at",
        _TIME,
        comment="when to remove once more what was written late",
    ),
    Column("taken_at", _TIME, comment="when it was last tried"),
    Index(None, "due_at"),
    comment="What the sweeper removes from the object store, unless it is taken back before.",
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="UUIDv7: sorts by creation"),
    _not_null("tenant", Text),
    _not_null("state", Text),
    _not_null("name", Text, comment="of the file, as the client says"),
    _not_null("size_bytes", BigInteger, comment="as declared"),
    Column("sha256", Text, comment="as declared, if it was; once complete, as found"),
    _not_null("resumable", Boolean, comment="whether it comes by tus, through the API"),
    _not_null("offset_bytes", BigInteger, default="0", comment="of tus: what is stored for good"),
    _not_null("epoch", Integer, default="0", comment="of tus: raised by every PATCH; fences it"),
    Column("multipart_id", Text, comment="of the object store's multipart upload"),
    Column("metadata", Text, comment="of tus: what its client said of it, returned unchanged"),
    _not_null("held", Boolean, default=text("false"), comment="a job needs its object"),
    _not_null("created_at", _TIME, default=func.now()),
    _not_null("expires_at", _TIME, comment="when it is removed, unless it is held"),
    _one_of("state", UploadState),
    _partial_index("ix_uploads_open", "tenant", where="state = 'open'"),
    _partial_index(None, "expires_at", where="NOT held"),
    comment="Files that come in before their jobs do.",
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    _not_null("tenant", Text),
    _not_null("url", Text),
    _not_null("description", Text, default=""),
    _not_null("events", ARRAY(Text), comment="the types it wants"),
    _not_null("secret", Text, comment="whsec_..., or with a face the value of a header, or empty"),
    Column("old_secret", Text, comment="signs too, until it expires"),
    Column("old_secret_until", _TIME),
    _not_null("listed", Boolean, comment="false: made for jobs that name its URL"),
    Column("face", JSONB, comment="of a dialect, in whose form it is told; null: the native one"),
    Column("digest", Text, comment="of the URL, secret and face of one that is not listed"),
    _not_null("enabled", Boolean, default=text("true")),
    Column("disabled_reason", Text),
    Column("failing_since", _TIME),
    _not_null("host", Text, comment="of the URL; all endpoints of a host share its slots"),
    _not_null(
        "prompt",
        Boolean,
        default=text("false"),
        comment="whether the last attempt was over soon; one that hangs has fewer slots",
    ),
    _not_null("created_at", _TIME, default=func.now()),
    _partial_index("ix_webhook_endpoints_listed", "tenant id", where="listed"),
    _partial_index(
        "uq_webhook_endpoints_unlisted", "tenant digest", where="NOT listed", unique=True
    ),
)

webhook_events = Table(
    "webhook_events",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="the webhook-id header"),
    _not_null("tenant", Text),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), comment="null for test events"),
    Column("batch_id", ForeignKey("batches.id"), comment="whose end this is, with that of a job"),
    _not_null("run", Integer, comment="the job's, of which this is the end"),
    _not_null("type", Text),
    _not_null("body", Text, comment="as sent, to the byte"),
    _not_null("created_at", _TIME, default=func.now()),
    _partial_index("uq_webhook_events_jobs", "job_id run", where="batch_id IS NULL", unique=True),
    _partial_index(
        "uq_webhook_events_batches", "batch_id", where="batch_id IS NOT NULL", unique=True
    ),
    _partial_index("ix_webhook_events_tests", "created_at", where="job_id IS NULL"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="UUIDv7: sorts by creation"),
    _not_null("tenant", Text),
    _not_null("event_id", ForeignKey("webhook_events.id", ondelete="CASCADE")),
    _not_null("endpoint_id", ForeignKey("webhook_endpoints.id", ondelete="CASCADE")),
    _not_null("state", Text, default="pending"),
    Column("error", Text, comment="why it failed"),
    _not_null("created_at", _TIME, default=func.now()),
    Column("finished_at", _TIME),
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
    _not_null("latency_ms", REAL),
    Column("error", Text, comment="why it counts as failed"),
    _not_null("at", _TIME, default=func.now()),
)
