"""The schema of the first release; those of earlier versions cannot be upgraded to it."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateSequence, DropSequence

revision = "0101"
down_revision = None
branch_labels = None
depends_on = None

_EVENT_IDS = sa.Sequence("event_ids")

_FIND_KEYS = """
    -- Whoever asks need not see any key: it names those that it was given.
    CREATE FUNCTION longhand_find_keys(digests bytea[])
    RETURNS TABLE (digest bytea, id uuid, tenant text, scopes text[], expires_in_s float8,
                   is_use_due boolean)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = {schema}, pg_temp
    AS $$
        SELECT sha256, id, tenant, scopes,
               extract(epoch FROM expires_at - clock_timestamp())::float8,
               last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute'
        FROM api_keys
        WHERE sha256 = ANY (digests) AND revoked_at IS NULL
          AND (expires_at IS NULL OR expires_at > clock_timestamp())
    $$
"""


_DUE_TURN = """
    -- Turns order the tenants of a queue, so they depend on the steps of all.
    CREATE FUNCTION longhand_due_turn(wanted text) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = {schema}, pg_temp
    AS $$
        SELECT tenant_turn FROM steps
        WHERE queue = wanted AND kind <> 'deliver' AND state = 'queued'
          AND run_at <= statement_timestamp()
        ORDER BY tenant_turn LIMIT 1
    $$
"""

_SEARCH = """
    -- Row-level security lets no index be used for @@. EXECUTE plans with the words at hand: rare
    -- ones are looked up in the index of terms, common ones met on a way through the newest.
    CREATE FUNCTION longhand_search(wanted tsquery, after_id uuid, after_idx bigint, most bigint)
    RETURNS TABLE (transcript_id uuid, idx integer)
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = {schema}, pg_temp
    AS $$
    BEGIN
        RETURN QUERY EXECUTE '
            SELECT found.transcript_id, found.idx FROM transcript_terms AS found
            WHERE found.tenant = $1 AND found.terms @@ $2 AND found.transcript_id <= $3
              AND (found.transcript_id < $3 OR found.idx > $4)
            ORDER BY found.transcript_id DESC, found.idx LIMIT $5
        ' USING current_setting('longhand.tenant', true), wanted, after_id, after_idx, most;
    END
    $$
"""

_BACKLOG = """
    -- What autoscalers and metrics go by. It is its owner's view, so who reads it needs to see no
    -- step. Audio is that of the chunks' cores, at 16,000 samples a second. Each part of the union
    -- reads a partial index without the steps that are done or void.
    CREATE VIEW longhand_backlog AS
    SELECT queue,
           count(*) FILTER (WHERE state = 'queued') AS queued_steps,
           count(*) FILTER (WHERE state = 'running') AS running_steps,
           coalesce(sum(audio_s) FILTER (WHERE state = 'queued'), 0) AS queued_audio_s,
           coalesce(sum(audio_s) FILTER (WHERE state = 'running'), 0) AS running_audio_s,
           coalesce(extract(epoch FROM statement_timestamp() - min(run_at) FILTER (
               WHERE state = 'queued' AND run_at <= statement_timestamp()
           )), 0)::float8 AS oldest_due_s
    FROM (
        SELECT queue, state, run_at, CASE WHEN kind = 'transcribe' THEN
            ((input ->> 'core_end')::int - (input ->> 'core_start')::int) / 16000.0::float8
        END AS audio_s
        FROM (
            SELECT * FROM steps WHERE state = 'queued'
            UNION ALL
            SELECT * FROM steps WHERE state = 'running'
        ) AS steps
    ) AS live
    GROUP BY queue
"""

_ROLES = """
    -- Roles are the whole cluster's, so another database's migration may have made them. Their
    -- operator lets them log in.
    DO $$
    DECLARE wanted text;
    BEGIN
        FOREACH wanted IN ARRAY ARRAY['longhand_api', 'longhand_worker', 'longhand_scaler'] LOOP
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                BEGIN
                    EXECUTE format('CREATE ROLE %I', wanted);
                EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
                END;
            END IF;
        END LOOP;
        -- The policies bind the tables' owner, too; it sees what the workers see.
        IF NOT pg_has_role(current_user, 'longhand_worker', 'USAGE') THEN
            GRANT longhand_worker TO CURRENT_USER;
        END IF;
    END $$
"""

_OWNED = {
    "tenants": "id",
    "api_keys": "tenant",
    "jobs": "tenant",
    "job_metadata": "tenant",
    "steps": "tenant",
    "transcripts": "tenant",
    "transcript_terms": "tenant",
    "batches": "tenant",
    "idempotency_keys": "tenant",
    "uploads": "tenant",
    "webhook_endpoints": "tenant",
    "webhook_events": "tenant",
    "webhook_deliveries": "tenant",
    "usage": "tenant",
    "usage_entries": "tenant",
}
"""Tables whose rows are tenants' own, and the column that says whose."""

_PARTS = {
    "calls": "jobs WHERE jobs.id = calls.job_id",
    "corrections": "jobs WHERE jobs.id = corrections.job_id",
    "job_events": "jobs WHERE jobs.id = job_events.job_id",
    "transcript_segments": "transcripts WHERE transcripts.id = transcript_segments.transcript_id",
    "webhook_attempts": "webhook_deliveries "
    "WHERE webhook_deliveries.id = webhook_attempts.delivery_id",
}
"""Tables whose rows belong to a row of another, and which one that is."""

_SHARED = ("removals", "served_queues", "worker_kinds", "workers")
"""Tables without anything of tenants."""


def _separate_tenants() -> None:
    """Make the roles of the API and the workers, and the policies that bind them."""
    op.execute(_ROLES)
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    for function in (_FIND_KEYS, _DUE_TURN, _SEARCH):
        op.execute(function.format(schema=schema))
    both = "longhand_api, longhand_worker"
    op.execute(f"GRANT USAGE ON SCHEMA {schema} TO {both}")
    functions = "longhand_find_keys, longhand_due_turn, longhand_search"
    op.execute(f"REVOKE ALL ON FUNCTION {functions} FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION longhand_find_keys, longhand_search TO longhand_api")
    op.execute(f"GRANT EXECUTE ON FUNCTION longhand_due_turn TO {both}")
    op.execute(f"GRANT SELECT ON alembic_version TO {both}")
    op.execute(f"GRANT USAGE, SELECT ON SEQUENCE event_ids TO {both}")
    op.execute(_BACKLOG)
    op.execute(f"GRANT USAGE ON SCHEMA {schema} TO longhand_scaler")
    op.execute(f"GRANT SELECT ON longhand_backlog TO longhand_scaler, {both}")
    for table in (*_OWNED, *_PARTS, *_SHARED):
        # Workers need no keys.
        users = "longhand_api" if table == "api_keys" else both
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {users}")
    visible = "current_setting('longhand.tenant', true) IN ({column}, '*')"
    for table, column in _OWNED.items():
        _bind(table, visible.format(column=column), "")
    for table, whole in _PARTS.items():
        # What a statement inserts together with its whole is not seen by that statement's own
        # policies. A foreign key sees to it that there is a whole.
        _bind(table, f"EXISTS (SELECT FROM {whole})", "WITH CHECK (true)")


def _bind(table: str, visible: str, check: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY api ON {table} TO longhand_api USING ({visible}) {check}")
    op.execute(f"CREATE POLICY workers ON {table} TO longhand_worker USING (true)")


def _create_corrections() -> None:
    op.create_table(
        "corrections",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False, comment="from 1"),
        sa.Column("kind", sa.Text(), nullable=False, comment="correct, undo or redo"),
        sa.Column("segment", sa.Integer(), nullable=False, comment="id of the segment"),
        sa.Column("before", sa.Text(), nullable=False, comment="its text until then"),
        sa.Column(
            "after",
            sa.Text(),
            nullable=False,
            comment="its text since; empty: it is left out",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("kind IN ('correct', 'undo', 'redo')", name="ck_corrections_kind"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name="fk_corrections_job_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "revision", name="pk_corrections"),
        comment="The journal of corrections of a job's transcript; deleted with the transcript.",
    )
    op.create_index(
        "ix_corrections_job_id_segment_revision",
        "corrections",
        ["job_id", "segment", "revision"],
        unique=False,
    )


def upgrade() -> None:  # noqa: PLR0915 - one statement for each table
    """Apply."""
    op.execute(CreateSequence(_EVENT_IDS))
    op.create_table(
        "tenants",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "limits",
            postgresql.JSONB(),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="what differs from the platform's defaults",
        ),
        sa.CheckConstraint("id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'", name="ck_tenants_id"),
        sa.PrimaryKeyConstraint("id", name="pk_tenants"),
    )
    op.execute("INSERT INTO tenants (id, name) VALUES ('default', 'Default')")
    op.create_table(
        "api_keys",
        sa.Column("id", sa.UUID(), nullable=False, comment="UUIDv7: sorts by creation"),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="for people"),
        sa.Column(
            "sha256",
            sa.LargeBinary(),
            nullable=False,
            comment="of the whole key, which is not stored",
        ),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True, comment="null: never"),
        sa.Column(
            "last_used_at", sa.DateTime(timezone=True), nullable=True, comment="to the minute"
        ),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant"], ["tenants.id"], name="fk_api_keys_tenant", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("sha256", name="uq_api_keys_sha256"),
    )
    op.create_index("ix_api_keys_tenant", "api_keys", ["tenant"], unique=False)
    op.create_table(
        "removals",
        sa.Column(
            "prefix", sa.Text(), nullable=False, comment="all objects whose keys begin with it"
        ),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "again_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when to remove once more what was written late",
        ),
        sa.Column(
            "taken_at", sa.DateTime(timezone=True), nullable=True, comment="when it was last tried"
        ),
        sa.PrimaryKeyConstraint("prefix", name="pk_removals"),
        comment="What the sweeper removes from the object store, unless it is taken back before.",
    )
    op.create_index("ix_removals_due_at", "removals", ["due_at"], unique=False)
    op.create_table(
        "served_queues",
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("last_served_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("queue", name="pk_served_queues"),
        comment="When a worker that is gone last served a queue; the living are in workers.",
    )
    op.create_table(
        "transcripts",
        sa.Column("id", sa.UUID(), nullable=False, comment="of the job that made it"),
        sa.Column(
            "tenant",
            sa.Text(),
            nullable=False,
            comment="that job's, and all others' that share it",
        ),
        sa.Column(
            "header",
            postgresql.JSONB(),
            nullable=False,
            comment="shared.speech.transcript.TranscriptHeader",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name="pk_transcripts"),
        sa.UniqueConstraint("tenant", "id", name="uq_transcripts_tenant_id"),
    )
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("events", sa.ARRAY(sa.Text()), nullable=False, comment="the types it wants"),
        sa.Column(
            "secret",
            sa.Text(),
            nullable=False,
            comment="whsec_..., or with a face the value of a header, or empty",
        ),
        sa.Column("old_secret", sa.Text(), nullable=True, comment="signs too, until it expires"),
        sa.Column("old_secret_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "listed", sa.Boolean(), nullable=False, comment="false: made for jobs that name its URL"
        ),
        sa.Column(
            "face",
            postgresql.JSONB(),
            nullable=True,
            comment="of a dialect, in whose form it is told; null: the native one",
        ),
        sa.Column(
            "digest",
            sa.Text(),
            nullable=True,
            comment="of the URL, secret and face of one that is not listed",
        ),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "host",
            sa.Text(),
            nullable=False,
            comment="of the URL; all endpoints of a host share its slots",
        ),
        sa.Column(
            "prompt",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="whether the last attempt was over soon; one that hangs has fewer slots",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_endpoints"),
    )
    op.create_index(
        "ix_webhook_endpoints_listed",
        "webhook_endpoints",
        ["tenant", "id"],
        unique=False,
        postgresql_where=sa.text("listed"),
    )
    op.create_index(
        "uq_webhook_endpoints_unlisted",
        "webhook_endpoints",
        ["tenant", "digest"],
        unique=True,
        postgresql_where=sa.text("NOT listed"),
    )
    _create_batches()
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False, comment="cpu, model, deliver or beat"),
        sa.Column("model", sa.Text(), nullable=True, comment="catalogue id of a model worker"),
        sa.Column("queues", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False, comment="claims it works on at once"),
        sa.Column("state", sa.Text(), nullable=False, comment="loading or ready"),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column(
            "dtype", sa.Text(), nullable=True, comment="what a model worker's device computes in"
        ),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("load_s", sa.REAL(), nullable=True, comment="seconds the model took to load"),
        sa.Column(
            "warm_up_s", sa.REAL(), nullable=True, comment="seconds its first second of audio took"
        ),
        sa.Column(
            "sandbox",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="what confines its decoders of media, and what does not",
        ),
        sa.Column(
            "suspect_step",
            sa.BigInteger(),
            nullable=True,
            comment="the step its model hears alone now, as an attempt before this one has failed",
        ),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "last_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )
    _create_uploads()
    op.create_table(
        "jobs",
        sa.Column(
            "id",
            sa.UUID(),
            nullable=False,
            comment="UUIDv7: sorts by when the upload began",
        ),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False, comment="catalogue id"),
        sa.Column(
            "options",
            postgresql.JSONB(),
            nullable=False,
            comment="shared.models.options.ResolvedOptions",
        ),
        sa.Column(
            "fingerprint",
            sa.Text(),
            nullable=True,
            comment="of audio, model and options; null: not to be shared",
        ),
        sa.Column(
            "original_id",
            sa.UUID(),
            nullable=True,
            comment="the equal job whose transcript this one gets",
        ),
        sa.Column("cached", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "metadata", postgresql.JSON(), server_default=sa.text("'{}'::json"), nullable=False
        ),
        sa.Column("batch_id", sa.UUID(), nullable=True, comment="null: it was submitted alone"),
        sa.Column(
            "result_url",
            sa.Text(),
            nullable=True,
            comment="what its webhook events tell; null: its path alone",
        ),
        sa.Column(
            "webhook_endpoint_id",
            sa.UUID(),
            nullable=True,
            comment="of the webhook_url that the job itself named",
        ),
        sa.Column(
            "run", sa.Integer(), server_default="1", nullable=False, comment="raised by every retry"
        ),
        sa.Column(
            "detected_language",
            sa.Text(),
            nullable=True,
            comment="of the whole, where one was to be detected",
        ),
        sa.Column("detected_probability", sa.REAL(), nullable=True),
        sa.Column(
            "language",
            sa.Text(),
            sa.Computed("coalesce(detected_language, options ->> 'language')", persisted=True),
            nullable=True,
            comment="given or detected",
        ),
        sa.Column(
            "upload_id",
            sa.UUID(),
            nullable=True,
            comment="the upload whose object is its source",
        ),
        sa.Column("source_key", sa.Text(), nullable=False),
        sa.Column("source_name", sa.Text(), nullable=False),
        sa.Column(
            "source_bytes", sa.BigInteger(), nullable=True, comment="null until it is fetched"
        ),
        sa.Column("sha256", sa.Text(), nullable=True, comment="null until it is fetched"),
        sa.Column(
            "audio_url",
            sa.Text(),
            nullable=True,
            comment="where it is fetched from; without what may be a secret",
        ),
        sa.Column(
            "fetched_bytes",
            sa.BigInteger(),
            nullable=True,
            comment="of the file, while it is fetched",
        ),
        sa.Column(
            "fetch_total_bytes",
            sa.BigInteger(),
            nullable=True,
            comment="of the file, as its server says",
        ),
        sa.Column(
            "duration_s", sa.Double(), nullable=True, comment="decoded length, known once prepared"
        ),
        sa.Column(
            "priority", sa.Integer(), server_default="0", nullable=False, comment="highest first"
        ),
        sa.Column("chunks_total", sa.Integer(), server_default="0", nullable=False),
        sa.Column("chunks_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("plan_complete", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "audio_planned_s",
            sa.Double(),
            server_default="0",
            nullable=False,
            comment="of all chunks",
        ),
        sa.Column(
            "planned_share",
            sa.Double(),
            server_default="0",
            nullable=False,
            comment="of the whole audio, planned; estimated until plan_complete",
        ),
        sa.Column("audio_done_s", sa.Double(), server_default="0", nullable=False),
        sa.Column(
            "percent_done",
            sa.Double(),
            nullable=True,
            comment="the most that could be said so far; never falls",
        ),
        sa.Column(
            "audio_kept_s",
            sa.Double(),
            server_default="0",
            nullable=False,
            comment="of audio_done_s: from before transcribing_since, by earlier runs",
        ),
        sa.Column("transcribing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "counted_audio_s",
            sa.Double(),
            server_default="0",
            nullable=False,
            comment="of its audio, in usage already",
        ),
        sa.Column(
            "counted_model_s",
            sa.Double(),
            server_default="0",
            nullable=False,
            comment="of model time, in usage already",
        ),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        sa.Column(
            "metrics", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "manifest",
            postgresql.JSON(),
            nullable=True,
            comment="shared.speech.manifest.Manifest, of the transcript",
        ),
        sa.Column("transcript_id", sa.UUID(), nullable=True, comment="equal jobs share one"),
        sa.Column(
            "reference",
            sa.Text(),
            nullable=True,
            comment="what was really said, as the client says",
        ),
        sa.Column(
            "live_text",
            sa.Text(),
            nullable=True,
            comment="what a live session told of its audio; deleted with the transcript",
        ),
        sa.Column(
            "accuracy",
            postgresql.JSONB(),
            nullable=True,
            comment="shared.speech.accuracy.Accuracy, against the reference",
        ),
        sa.Column(
            "first_event",
            sa.BigInteger(),
            nullable=False,
            comment="id of the event of its creation; a tenant's jobs are listed by it",
        ),
        sa.Column(
            "last_event",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="id of the latest event that those who watch the job see",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("audio_deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("transcript_deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "peaks",
            sa.LargeBinary(),
            nullable=True,
            comment="of its audio: worker.media.peaks",
        ),
        sa.Column(
            "listening_bytes",
            sa.BigInteger(),
            nullable=True,
            comment="size of its listening copy; null: there is none",
        ),
        sa.Column(
            "speakers",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="shared.speech.speakers.revision.Revision; deleted with the transcript",
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'canceled')",
            name="ck_jobs_state",
        ),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_jobs_batch_id"),
        sa.ForeignKeyConstraint(
            ["original_id"], ["jobs.id"], name="fk_jobs_original_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["transcript_id"], ["transcripts.id"], name="fk_jobs_transcript_id"
        ),
        sa.ForeignKeyConstraint(
            ["webhook_endpoint_id"],
            ["webhook_endpoints.id"],
            name="fk_jobs_webhook_endpoint_id",
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["uploads.id"], name="fk_jobs_upload_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index(
        "ix_jobs_active",
        "jobs",
        ["id"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )
    op.create_index(
        "ix_jobs_ended",
        "jobs",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_original",
        "jobs",
        ["tenant", "fingerprint"],
        unique=False,
        postgresql_where=sa.text(
            "original_id IS NULL AND state IN ('queued', 'running', 'succeeded')"
        ),
    )
    op.create_index(
        "ix_jobs_original_id",
        "jobs",
        ["original_id"],
        unique=False,
        postgresql_where=sa.text("original_id IS NOT NULL"),
    )
    op.create_index("ix_jobs_transcript_id", "jobs", ["transcript_id"], unique=False)
    op.create_index(
        "ix_jobs_unmeasured",
        "jobs",
        ["id"],
        unique=False,
        postgresql_where=sa.text(
            "state = 'succeeded' AND reference IS NOT NULL AND accuracy IS NULL"
        ),
    )
    op.create_index(
        "ix_jobs_webhook_endpoint_id",
        "jobs",
        ["webhook_endpoint_id"],
        unique=False,
        postgresql_where=sa.text("webhook_endpoint_id IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_batch_id_first_event",
        "jobs",
        ["batch_id", "first_event"],
        unique=False,
        postgresql_where=sa.text("batch_id IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_active_of_batch",
        "jobs",
        ["batch_id"],
        unique=False,
        postgresql_where=sa.text("batch_id IS NOT NULL AND state IN ('queued', 'running')"),
    )
    op.create_index(
        "ix_jobs_upload_id",
        "jobs",
        ["upload_id"],
        unique=False,
        postgresql_where=sa.text("upload_id IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_refused",
        "jobs",
        ["error_code", "finished_at"],
        unique=False,
        postgresql_where=sa.text("audio_deleted_at IS NULL AND state = 'failed'"),
    )
    op.create_index(
        "ix_jobs_with_audio",
        "jobs",
        ["state", "finished_at"],
        unique=False,
        postgresql_where=sa.text("audio_deleted_at IS NULL AND finished_at IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_with_transcript",
        "jobs",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("transcript_id IS NOT NULL"),
    )
    _create_filters()
    op.create_table(
        "calls",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column(
            "wanted_until",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="renewed while a client waits for the job's end",
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name="fk_calls_job_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", name="pk_calls"),
        comment="Jobs that the sweeper cancels once no client waits for them.",
    )
    op.create_table(
        "transcript_segments",
        sa.Column("transcript_id", sa.UUID(), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column(
            "document",
            postgresql.JSONB(),
            nullable=False,
            comment="shared.speech.transcript.Segment",
        ),
        sa.ForeignKeyConstraint(
            ["transcript_id"],
            ["transcripts.id"],
            name="fk_transcript_segments_transcript_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("transcript_id", "idx", name="pk_transcript_segments"),
        comment="One row per segment: a long transcript is written and read in pieces.",
    )
    _create_corrections()
    op.create_table(
        "worker_kinds",
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column(
            "proven", sa.Boolean(), nullable=False, comment="whether it has done such a step"
        ),
        sa.Column(
            "bug",
            sa.Text(),
            nullable=True,
            comment="fingerprint of the unexpected error that it met last",
        ),
        sa.Column(
            "failures",
            sa.Integer(),
            nullable=False,
            comment="how often in a row, before it is proven",
        ),
        sa.Column("reason", sa.Text(), nullable=True, comment="the same for people"),
        sa.CheckConstraint(
            "kind IN ('fetch', 'prepare', 'detect', 'transcribe', 'diarize', 'finish', 'deliver', "
            "'listen')",
            name="ck_worker_kinds_kind",
        ),
        sa.ForeignKeyConstraint(
            ["worker_id"], ["workers.id"], name="fk_worker_kinds_worker_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("worker_id", "kind", name="pk_worker_kinds"),
        comment="What became of each kind of step at a worker, since the worker's start.",
    )
    op.create_table(
        "job_events",
        sa.Column(
            "id", sa.BigInteger(), server_default=sa.text("nextval('event_ids')"), nullable=False
        ),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column(
            "step_id", sa.BigInteger(), nullable=True, comment="null for a change of the job itself"
        ),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name="fk_job_events_job_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_job_events"),
        comment="Append-only: changes of jobs' states, and attempts at steps that failed.",
    )
    op.create_index("ix_job_events_job_id_id", "job_events", ["job_id", "id"], unique=False)
    op.create_table(
        "steps",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column(
            "idx",
            sa.Integer(),
            nullable=False,
            comment="the number of a chunk or a delivery; else 0",
        ),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False, comment="its job's"),
        sa.Column(
            "rank",
            sa.Integer(),
            nullable=False,
            comment="lowest first: minus its job's priority, least if its worker was lost",
        ),
        sa.Column(
            "job_turn",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="orders the jobs of a tenant (shared.store.successors)",
        ),
        sa.Column(
            "tenant_turn",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="orders the tenants of a queue (shared.store.successors)",
        ),
        sa.Column(
            "lane",
            sa.Text(),
            nullable=True,
            comment="of a deliver step: its endpoint, which takes only a few at once",
        ),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column(
            "outages",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="claims given back because a service was away; not among the attempts",
        ),
        sa.Column(
            "epoch",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="raised by every claim",
        ),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "run_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "input", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "audio",
            sa.LargeBinary(),
            nullable=True,
            comment="of a short file's chunk: samples, s16le",
        ),
        sa.Column("output", postgresql.JSONB(), nullable=True),
        sa.Column("timings", postgresql.JSONB(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        sa.Column(
            "bug",
            sa.Text(),
            nullable=True,
            comment="fingerprint of the unexpected error that ended the last attempt",
        ),
        sa.Column(
            "event_id",
            sa.BigInteger(),
            nullable=True,
            comment="of a done chunk: its place among the job's events",
        ),
        sa.CheckConstraint(
            "kind IN ('fetch', 'prepare', 'detect', 'transcribe', 'diarize', 'finish', 'deliver', "
            "'listen')",
            name="ck_steps_kind",
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'done', 'failed', 'void')", name="ck_steps_state"
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name="fk_steps_job_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_steps"),
        sa.UniqueConstraint("job_id", "kind", "idx", name="uq_steps_job_id_kind_idx"),
    )
    op.create_index(
        "ix_steps_due",
        "steps",
        ["queue", "run_at"],
        unique=False,
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_steps_events",
        "steps",
        ["job_id", "event_id"],
        unique=False,
        postgresql_where=sa.text("event_id IS NOT NULL"),
    )
    op.create_index(
        "ix_steps_running",
        "steps",
        ["queue", "lease_until"],
        unique=False,
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(
        "ix_steps_turns",
        "steps",
        ["queue", "tenant_turn", "id"],
        unique=False,
        postgresql_include=["tenant", "run_at"],
        postgresql_where=sa.text("kind <> 'deliver' AND state = 'queued'"),
    )
    op.create_index(
        "ix_steps_turns_of_tenants",
        "steps",
        ["queue", "tenant", "tenant_turn"],
        unique=False,
        postgresql_where=sa.text("kind <> 'deliver' AND state = 'queued'"),
    )
    op.create_index(
        "ix_steps_waiting",
        "steps",
        ["queue", "tenant", "rank", "job_turn", "job_id", "idx", "run_at"],
        unique=False,
        postgresql_where=sa.text("kind <> 'deliver' AND state = 'queued'"),
    )
    op.create_index(
        "ix_steps_waiting_in_lanes",
        "steps",
        ["lane", "run_at"],
        unique=False,
        postgresql_where=sa.text("lane IS NOT NULL AND state = 'queued'"),
    )
    _create_webhook_events()
    _create_idempotency_keys()
    _create_listening()
    _create_search()
    _create_usage()
    _separate_tenants()


def _create_webhook_events() -> None:
    op.create_table(
        "webhook_events",
        sa.Column("id", sa.UUID(), nullable=False, comment="the webhook-id header"),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=True, comment="null for test events"),
        sa.Column(
            "batch_id",
            sa.UUID(),
            nullable=True,
            comment="whose end this is, with that of a job",
        ),
        sa.Column(
            "run", sa.Integer(), nullable=False, comment="the job's, of which this is the end"
        ),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False, comment="as sent, to the byte"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name="fk_webhook_events_job_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_events"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_webhook_events_batch_id"),
    )
    op.create_index(
        "uq_webhook_events_batches",
        "webhook_events",
        ["batch_id"],
        unique=True,
        postgresql_where=sa.text("batch_id IS NOT NULL"),
    )
    op.create_index(
        "uq_webhook_events_jobs",
        "webhook_events",
        ["job_id", "run"],
        unique=True,
        postgresql_where=sa.text("batch_id IS NULL"),
    )
    op.create_index(
        "ix_webhook_events_tests",
        "webhook_events",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("job_id IS NULL"),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.UUID(), nullable=False, comment="UUIDv7: sorts by creation"),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("endpoint_id", sa.UUID(), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("error", sa.Text(), nullable=True, comment="why it failed"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'delivered', 'failed')", name="ck_webhook_deliveries_state"
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name="fk_webhook_deliveries_endpoint_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["event_id"],
            ["webhook_events.id"],
            name="fk_webhook_deliveries_event_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
        sa.UniqueConstraint(
            "event_id", "endpoint_id", name="uq_webhook_deliveries_event_id_endpoint_id"
        ),
    )
    op.create_index(
        "ix_webhook_deliveries_endpoint_id_id",
        "webhook_deliveries",
        ["endpoint_id", "id"],
        unique=False,
    )
    op.create_index(
        "ix_webhook_deliveries_tenant_id", "webhook_deliveries", ["tenant", "id"], unique=False
    )
    _create_webhook_attempts()


def _create_webhook_attempts() -> None:
    op.create_table(
        "webhook_attempts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("delivery_id", sa.UUID(), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True, comment="null: there was no answer"),
        sa.Column("latency_ms", sa.REAL(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True, comment="why it counts as failed"),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["webhook_deliveries.id"],
            name="fk_webhook_attempts_delivery_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_attempts"),
    )
    op.create_index(
        "ix_webhook_attempts_delivery_id", "webhook_attempts", ["delivery_id"], unique=False
    )


def _create_batches() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.UUID(), nullable=False, comment="UUIDv7: sorts by creation"),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column(
            "jobs",
            sa.Integer(),
            nullable=True,
            comment="how many were created with it; null while they are",
        ),
        sa.Column(
            "webhook_endpoint_id",
            sa.UUID(),
            nullable=True,
            comment="of the webhook_url that the batch itself named",
        ),
        sa.Column(
            "result_url",
            sa.Text(),
            nullable=True,
            comment="what its webhook event tells; null: its path alone",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "completed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when all of its jobs had ended for the first time",
        ),
        sa.ForeignKeyConstraint(
            ["webhook_endpoint_id"],
            ["webhook_endpoints.id"],
            name="fk_batches_webhook_endpoint_id",
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
        comment="Jobs that were submitted together.",
    )
    op.create_index(
        "ix_batches_webhook_endpoint_id",
        "batches",
        ["webhook_endpoint_id"],
        unique=False,
        postgresql_where=sa.text("webhook_endpoint_id IS NOT NULL"),
    )


def _create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column(
            "holder",
            sa.UUID(),
            nullable=False,
            comment="the request that works on the answer",
        ),
        sa.Column(
            "held_until",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="renewed by the holder",
        ),
        sa.Column(
            "fingerprint",
            sa.Text(),
            nullable=True,
            comment="of the request; null until it is answered",
        ),
        sa.Column("answer", postgresql.JSONB(), nullable=True, comment="what the request has made"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("tenant", "key", name="pk_idempotency_keys"),
        comment="Requests that clients may repeat: each makes its jobs once.",
    )
    op.create_index(
        "ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"], unique=False
    )


def _create_uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.UUID(), nullable=False, comment="UUIDv7: sorts by creation"),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="of the file, as the client says"),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False, comment="as declared"),
        sa.Column(
            "sha256",
            sa.Text(),
            nullable=True,
            comment="as declared, if it was; once complete, as found",
        ),
        sa.Column(
            "resumable",
            sa.Boolean(),
            nullable=False,
            comment="whether it comes by tus, through the API",
        ),
        sa.Column(
            "offset_bytes",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="of tus: what is stored for good",
        ),
        sa.Column(
            "epoch",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="of tus: raised by every PATCH; fences it",
        ),
        sa.Column(
            "multipart_id",
            sa.Text(),
            nullable=True,
            comment="of the object store's multipart upload",
        ),
        sa.Column(
            "metadata",
            sa.Text(),
            nullable=True,
            comment="of tus: what its client said of it, returned unchanged",
        ),
        sa.Column(
            "held",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="a job needs its object",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "expires_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when it is removed, unless it is held",
        ),
        sa.CheckConstraint(
            "state IN ('open', 'verifying', 'complete', 'failed')", name="ck_uploads_state"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
        comment="Files that come in before their jobs do.",
    )
    op.create_index(
        "ix_uploads_open",
        "uploads",
        ["tenant"],
        unique=False,
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "ix_uploads_expires_at",
        "uploads",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("NOT held"),
    )


def _create_listening() -> None:
    op.create_index(
        "ix_jobs_with_listening",
        "jobs",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("listening_bytes IS NOT NULL"),
    )


def _create_filters() -> None:
    """Make what finds the pages of a list of jobs."""
    op.create_index("ix_jobs_tenant_first_event", "jobs", ["tenant", "first_event"], unique=False)
    op.create_index("ix_jobs_of_model", "jobs", ["tenant", "model", "first_event"], unique=False)
    op.create_index(
        "ix_jobs_of_language", "jobs", ["tenant", "language", "first_event"], unique=False
    )
    op.create_index("ix_jobs_tenant_created_at", "jobs", ["tenant", "created_at"], unique=False)
    op.create_index(
        "ix_jobs_active_of_tenant",
        "jobs",
        ["tenant", "first_event"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )
    op.create_index(
        "ix_jobs_ended_of_tenant",
        "jobs",
        ["tenant", "state", "first_event"],
        unique=False,
        postgresql_where=sa.text("state IN ('succeeded', 'failed', 'canceled')"),
    )
    op.create_table(
        "job_metadata",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("first_event", sa.BigInteger(), nullable=False, comment="the job's"),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name="fk_job_metadata_job_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant", "key", "value", "first_event", name="pk_job_metadata"),
        comment="Members of jobs' metadata by which jobs are found.",
    )
    op.create_index("ix_job_metadata_job_id", "job_metadata", ["job_id"], unique=False)


def _create_search() -> None:
    op.create_table(
        "transcript_terms",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("transcript_id", sa.UUID(), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False, comment="of the segment"),
        sa.Column(
            "terms",
            postgresql.TSVECTOR(),
            nullable=False,
            comment="each with the tenant before it (shared.store.search)",
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "transcript_id"],
            ["transcripts.tenant", "transcripts.id"],
            name="fk_transcript_terms_tenant_transcript_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant", "transcript_id", "idx", name="pk_transcript_terms"),
        comment="What segments are found by.",
    )
    op.create_index(
        "ix_transcript_terms_terms",
        "transcript_terms",
        ["terms"],
        unique=False,
        postgresql_using="gin",
    )


def _create_usage() -> None:
    op.create_table(
        "usage",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False, comment="UTC"),
        *_usage(),
        sa.PrimaryKeyConstraint("tenant", "day", name="pk_usage"),
        comment="What tenants used, without what is in usage_entries still.",
    )
    op.create_table(
        "usage_entries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        *_usage(),
        sa.PrimaryKeyConstraint("id", name="pk_usage_entries"),
        comment="What tenants used, until it is added to usage: jobs that end wait for no common "
        "row.",
    )
    op.create_index("ix_usage_entries_tenant_day", "usage_entries", ["tenant", "day"], unique=False)


def _usage() -> list[sa.Column[Any]]:
    return [
        sa.Column(
            "jobs",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="that ended for the first time",
        ),
        sa.Column("audio_s", sa.Double(), server_default="0", nullable=False),
        sa.Column("model_s", sa.Double(), server_default="0", nullable=False),
        sa.Column("live_s", sa.Double(), server_default="0", nullable=False),
    ]


def downgrade() -> None:
    """Revert; the roles stay, as other databases of the cluster may have them."""
    op.execute("DROP VIEW longhand_backlog")
    op.execute("DROP FUNCTION longhand_find_keys, longhand_due_turn, longhand_search")
    for table in [
        "usage_entries",
        "usage",
        "webhook_attempts",
        "webhook_deliveries",
        "webhook_events",
        "steps",
        "job_events",
        "worker_kinds",
        "transcript_terms",
        "transcript_segments",
        "corrections",
        "calls",
        "job_metadata",
        "jobs",
        "uploads",
        "workers",
        "idempotency_keys",
        "batches",
        "webhook_endpoints",
        "transcripts",
        "served_queues",
        "removals",
        "api_keys",
        "tenants",
    ]:
        op.drop_table(table)
    op.execute(DropSequence(_EVENT_IDS))
