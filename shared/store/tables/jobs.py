"""Jobs, those that were submitted together, and what happens to them."""

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB, UUID

from shared.store.states import JobState
from shared.store.tables.schema import TIME, metadata, not_null, one_of, partial_index

batches = Table(
    "batches",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="UUIDv7: sorts by creation"),
    not_null("tenant", Text),
    Column("jobs", Integer, comment="how many were created with it; null while they are"),
    Column(
        "webhook_endpoint_id",
        ForeignKey("webhook_endpoints.id", ondelete="SET NULL"),
        comment="of the webhook_url that the batch itself named",
    ),
    Column("result_url", Text, comment="what its webhook event tells; null: its path alone"),
    not_null("created_at", TIME, default=func.now()),
    Column("completed_at", TIME, comment="when all of its jobs had ended for the first time"),
    partial_index(None, "webhook_endpoint_id", where="webhook_endpoint_id IS NOT NULL"),
    comment="Jobs that were submitted together.",
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    not_null("holder", UUID(as_uuid=True), comment="the request that works on the answer"),
    not_null("held_until", TIME, comment="renewed by the holder"),
    Column("fingerprint", Text, comment="of the request; null until it is answered"),
    Column("answer", JSONB, comment="what the request has made"),
    not_null("created_at", TIME, default=func.now()),
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
    not_null("tenant", Text),
    not_null("state", Text),
    not_null("model", Text, comment="catalogue id"),
    not_null("options", JSONB, comment="shared.models.options.ResolvedOptions"),
    Column("fingerprint", Text, comment="of audio, model and options; null: not to be shared"),
    Column(
        "original_id",
        ForeignKey("jobs.id", ondelete="SET NULL"),
        comment="the equal job whose transcript this one gets",
    ),
    not_null("cached", Boolean, default=text("false")),
    # JSON, not JSONB: it is returned as it was given.
    not_null("metadata", JSON, default=text("'{}'::json")),
    Column("batch_id", ForeignKey("batches.id"), comment="null: it was submitted alone"),
    Column("result_url", Text, comment="what its webhook events tell; null: its path alone"),
    Column(
        "webhook_endpoint_id",
        ForeignKey("webhook_endpoints.id", ondelete="SET NULL"),
        comment="of the webhook_url that the job itself named",
    ),
    not_null("run", Integer, default="1", comment="raised by every retry"),
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
    not_null("source_key", Text),
    not_null("source_name", Text),
    Column("source_bytes", BigInteger, comment="null until it is fetched"),
    Column("sha256", Text, comment="null until it is fetched"),
    Column("audio_url", Text, comment="where it is fetched from; without what may be a secret"),
    Column("fetched_bytes", BigInteger, comment="of the file, while it is fetched"),
    Column("fetch_total_bytes", BigInteger, comment="of the file, as its server says"),
    Column("duration_s", Double, comment="decoded length, known once prepared"),
    not_null("priority", Integer, default="0", comment="highest first"),
    not_null("chunks_total", Integer, default="0"),
    not_null("chunks_done", Integer, default="0"),
    not_null("plan_complete", Boolean, default=text("false")),
    not_null("audio_planned_s", Double, default="0", comment="of all chunks"),
    not_null(
        "planned_share",
        Double,
        default="0",
        comment="of the whole audio, planned; estimated until plan_complete",
    ),
    not_null("audio_done_s", Double, default="0"),
    Column("percent_done", Double, comment="the most that could be said so far; never falls"),
    not_null(
        "audio_kept_s",
        Double,
        default="0",
        comment="of audio_done_s: from before transcribing_since, by earlier runs",
    ),
    Column("transcribing_since", TIME),
    not_null("counted_audio_s", Double, default="0", comment="of its audio, in usage already"),
    not_null("counted_model_s", Double, default="0", comment="of model time, in usage already"),
    Column("error_code", Text),
    Column("error_detail", Text),
    not_null("metrics", JSONB, default=text("'{}'::jsonb")),
    # JSON, not JSONB: it names every chunk, and Postgres would parse all of it in memory.
    Column("manifest", JSON, comment="speech.transcript.manifest.Manifest, of the transcript"),
    Column("transcript_id", ForeignKey("transcripts.id"), comment="equal jobs share one"),
    Column("reference", Text, comment="what was really said, as the client says"),
    Column(
        "live_text",
        Text,
        comment="what a live session told of its audio; deleted with the transcript",
    ),
    Column("accuracy", JSONB, comment="speech.text.accuracy.Accuracy, against the reference"),
    not_null(
        "first_event",
        BigInteger,
        comment="id of the event of its creation; a tenant's jobs are listed by it",
    ),
    not_null(
        "last_event",
        BigInteger,
        default="0",
        comment="id of the latest event that those who watch the job see",
    ),
    not_null("created_at", TIME, default=func.now()),
    Column("started_at", TIME),
    Column("finished_at", TIME),
    Column("audio_deleted_at", TIME),
    Column("transcript_deleted_at", TIME),
    Column("peaks", LargeBinary, comment="of its audio: worker.media.peaks"),
    Column(
        "listening_bytes", BigInteger, comment="size of its listening copy; null: there is none"
    ),
    Column(
        "speakers",
        JSONB,
        comment="speech.speakers.revision.Revision; deleted with the transcript",
    ),
    one_of("state", JobState),
    Index(None, "tenant", "first_event"),
    Index("ix_jobs_of_model", "tenant", "model", "first_event"),
    Index("ix_jobs_of_language", "tenant", "language", "first_event"),
    Index(None, "tenant", "created_at"),
    partial_index("ix_jobs_active", "id", where="state IN ('queued', 'running')"),
    partial_index(
        "ix_jobs_active_of_tenant", "tenant first_event", where="state IN ('queued', 'running')"
    ),
    partial_index(
        "ix_jobs_ended_of_tenant",
        "tenant state first_event",
        where="state IN ('succeeded', 'failed', 'canceled')",
    ),
    partial_index(
        "ix_jobs_original",
        "tenant fingerprint",
        where="original_id IS NULL AND state IN ('queued', 'running', 'succeeded')",
    ),
    partial_index(None, "original_id", where="original_id IS NOT NULL"),
    Index(None, "transcript_id"),
    partial_index(None, "webhook_endpoint_id", where="webhook_endpoint_id IS NOT NULL"),
    partial_index(None, "batch_id first_event", where="batch_id IS NOT NULL"),
    partial_index(
        "ix_jobs_active_of_batch",
        "batch_id",
        where="batch_id IS NOT NULL AND state IN ('queued', 'running')",
    ),
    partial_index(None, "upload_id", where="upload_id IS NOT NULL"),
    partial_index("ix_jobs_ended", "finished_at", where="finished_at IS NOT NULL"),
    partial_index(
        "ix_jobs_with_audio",
        "state finished_at",
        where="audio_deleted_at IS NULL AND finished_at IS NOT NULL",
    ),
    partial_index(
        "ix_jobs_refused",
        "error_code finished_at",
        where="audio_deleted_at IS NULL AND state = 'failed'",
    ),
    partial_index("ix_jobs_with_listening", "finished_at", where="listening_bytes IS NOT NULL"),
    partial_index("ix_jobs_with_transcript", "finished_at", where="transcript_id IS NOT NULL"),
    partial_index(
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
    not_null("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), index=True),
    comment="Members of jobs' metadata by which jobs are found.",
)

calls = Table(
    "calls",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    not_null("wanted_until", TIME, comment="renewed while a client waits for the job's end"),
    comment="Jobs that the sweeper cancels once no client waits for them.",
)

event_ids = Sequence("event_ids", metadata=metadata)
"""Shared by ``job_events`` and done chunks, so that all events of a job have one order."""

job_events = Table(
    "job_events",
    metadata,
    Column(
        "id", BigInteger, event_ids, server_default=text("nextval('event_ids')"), primary_key=True
    ),
    not_null("job_id", ForeignKey("jobs.id", ondelete="CASCADE")),
    Column("step_id", BigInteger, comment="null for a change of the job itself"),
    not_null("event", Text),
    Column("attempt", Integer),
    Column("epoch", Integer),
    Column("worker", Text),
    Column("detail", Text),
    not_null("at", TIME, default=text("clock_timestamp()")),
    Index(None, "job_id", "id"),
    comment="Append-only: changes of jobs' states, and attempts at steps that failed.",
)

share_links = Table(
    "share_links",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="UUIDv7: sorts by creation"),
    not_null("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), index=True),
    not_null("sha256", LargeBinary, comment="of the link's token, which is not stored"),
    not_null("created_at", TIME, default=func.now()),
    not_null("expires_at", TIME),
    UniqueConstraint("sha256"),
    comment="Links that open one job's transcript and audio, read only, to whoever has them.",
)

corrections = Table(
    "corrections",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("revision", Integer, primary_key=True, comment="from 1"),
    not_null("kind", Text, comment="correct, undo or redo"),
    not_null("segment", Integer, comment="id of the segment"),
    not_null("before", Text, comment="its text until then"),
    not_null("after", Text, comment="its text since; empty: it is left out"),
    not_null("created_at", TIME, default=func.now()),
    CheckConstraint("kind IN ('correct', 'undo', 'redo')", name="kind"),
    Index(None, "job_id", "segment", "revision"),
    comment="The journal of corrections of a job's transcript; deleted with the transcript.",
)
