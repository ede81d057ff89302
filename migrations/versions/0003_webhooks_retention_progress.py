"""webhooks, what is to be removed from the object store, a job's runs, metadata and progress"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())
TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "removals",
        sa.Column(
            "prefix", sa.Text(), nullable=False, comment="all objects whose keys begin with it"
        ),
        sa.Column("due_at", TIMESTAMP, nullable=False),
        sa.Column("again_at", TIMESTAMP, comment="when to remove once more what was written late"),
        sa.Column("taken_at", TIMESTAMP, comment="when it was last tried"),
        sa.PrimaryKeyConstraint("prefix", name=op.f("pk_removals")),
        comment="What the sweeper removes from the object store, unless it is taken back before.",
    )
    op.create_index(op.f("ix_removals_due_at"), "removals", ["due_at"])
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "events", postgresql.ARRAY(sa.Text()), nullable=False, comment="the types it wants"
        ),
        sa.Column("secret", sa.Text(), nullable=False, comment="whsec_..."),
        sa.Column("old_secret", sa.Text(), comment="signs too, until it expires"),
        sa.Column("old_secret_until", TIMESTAMP),
        sa.Column(
            "listed",
            sa.Boolean(),
            nullable=False,
            comment="false: made for jobs that name its URL",
        ),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("disabled_reason", sa.Text()),
        sa.Column("failing_since", TIMESTAMP),
        sa.Column("created_at", TIMESTAMP, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index(
        "ix_webhook_endpoints_listed",
        "webhook_endpoints",
        ["tenant", "id"],
        postgresql_where=sa.text("listed"),
    )
    op.create_index(
        "uq_webhook_endpoints_unlisted",
        "webhook_endpoints",
        ["tenant", "url", "secret"],
        unique=True,
        postgresql_where=sa.text("NOT listed"),
    )
    op.create_table(
        "webhook_events",
        sa.Column("id", sa.UUID(), nullable=False, comment="the webhook-id header"),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("job_id", sa.UUID(), comment="null for test events"),
        sa.Column(
            "run", sa.Integer(), nullable=False, comment="the job's, of which this is the end"
        ),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False, comment="as sent, to the byte"),
        sa.Column("created_at", TIMESTAMP, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_events")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_webhook_events_job_id"), ondelete="CASCADE"
        ),
        sa.UniqueConstraint("job_id", "run", name=op.f("uq_webhook_events_job_id_run")),
    )
    op.create_index(
        "ix_webhook_events_tests",
        "webhook_events",
        ["created_at"],
        postgresql_where=sa.text("job_id IS NULL"),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.UUID(), nullable=False, comment="UUIDv7: sorts by creation"),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("endpoint_id", sa.UUID(), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("error", sa.Text(), comment="why it failed"),
        sa.Column("created_at", TIMESTAMP, server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", TIMESTAMP),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
        sa.CheckConstraint(
            "state IN ('pending', 'delivered', 'failed')", name=op.f("ck_webhook_deliveries_state")
        ),
        sa.ForeignKeyConstraint(
            ["event_id"],
            ["webhook_events.id"],
            name=op.f("fk_webhook_deliveries_event_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name=op.f("fk_webhook_deliveries_endpoint_id"),
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint(
            "event_id", "endpoint_id", name=op.f("uq_webhook_deliveries_event_id_endpoint_id")
        ),
    )
    op.create_index(op.f("ix_webhook_deliveries_tenant_id"), "webhook_deliveries", ["tenant", "id"])
    op.create_index(
        op.f("ix_webhook_deliveries_endpoint_id_id"), "webhook_deliveries", ["endpoint_id", "id"]
    )
    op.create_table(
        "webhook_attempts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("delivery_id", sa.UUID(), nullable=False),
        sa.Column("status_code", sa.Integer(), comment="null: there was no answer"),
        sa.Column("latency_ms", sa.REAL(), nullable=False),
        sa.Column("error", sa.Text(), comment="why it counts as failed"),
        sa.Column("at", TIMESTAMP, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_attempts")),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["webhook_deliveries.id"],
            name=op.f("fk_webhook_attempts_delivery_id"),
            ondelete="CASCADE",
        ),
    )
    op.create_index(op.f("ix_webhook_attempts_delivery_id"), "webhook_attempts", ["delivery_id"])
    op.add_column(
        "jobs",
        sa.Column(
            "metadata",
            postgresql.JSON(astext_type=sa.Text()),
            server_default=sa.text("'{}'::json"),
            nullable=False,
        ),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "result_url",
            sa.Text(),
            comment="what its webhook events tell; null: its path alone",
        ),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "webhook_endpoint_id",
            sa.UUID(),
            comment="of the webhook_url that the job itself named",
        ),
    )
    op.create_index(
        op.f("ix_jobs_webhook_endpoint_id"),
        "jobs",
        ["webhook_endpoint_id"],
        postgresql_where=sa.text("webhook_endpoint_id IS NOT NULL"),
    )
    op.create_foreign_key(
        op.f("fk_jobs_webhook_endpoint_id"),
        "jobs",
        "webhook_endpoints",
        ["webhook_endpoint_id"],
        ["id"],
        ondelete="SET NULL",
    )
    op.add_column(
        "jobs",
        sa.Column(
            "run",
            sa.Integer(),
            server_default="1",
            nullable=False,
            comment="raised by every retry",
        ),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "audio_planned_s",
            sa.Double(),
            server_default="0",
            nullable=False,
            comment="of all chunks",
        ),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "planned_share",
            sa.Double(),
            server_default="0",
            nullable=False,
            comment="of the whole audio, planned; estimated until plan_complete",
        ),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "percent_done",
            sa.Double(),
            comment="the most that could be said so far; never falls",
        ),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "audio_kept_s",
            sa.Double(),
            server_default="0",
            nullable=False,
            comment="of audio_done_s: from before transcribing_since, by earlier runs",
        ),
    )
    for column in ("transcribing_since", "audio_deleted_at", "transcript_deleted_at"):
        op.add_column("jobs", sa.Column(column, TIMESTAMP))
    # What is past its time is found by these.
    op.create_index(
        "ix_jobs_ended",
        "jobs",
        ["finished_at"],
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_with_audio",
        "jobs",
        ["state", "finished_at"],
        postgresql_where=sa.text("audio_deleted_at IS NULL AND finished_at IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_with_transcript",
        "jobs",
        ["finished_at"],
        postgresql_where=sa.text("transcript_id IS NOT NULL"),
    )
    # Clients read a job's events in order, from any of them on.
    op.drop_index(op.f("ix_job_events_job_id"), "job_events")
    op.create_index(op.f("ix_job_events_job_id_id"), "job_events", ["job_id", "id"])
    op.add_column(
        "steps",
        sa.Column(
            "lane",
            sa.Text(),
            comment="of a deliver step: its endpoint, which takes only a few at once",
        ),
    )
    op.add_column("steps", sa.Column("tenant", sa.Text(), comment="its job's"))
    op.add_column(
        "steps",
        sa.Column(
            "rank",
            sa.Integer(),
            comment="lowest first: minus its job's priority, least if its worker was lost",
        ),
    )
    op.execute("""
        UPDATE steps SET tenant = jobs.tenant, rank = -jobs.priority
        FROM jobs WHERE jobs.id = job_id
    """)
    op.alter_column("steps", "tenant", existing_comment="its job's", nullable=False)
    op.alter_column(
        "steps",
        "rank",
        existing_comment="lowest first: minus its job's priority, least if its worker was lost",
        nullable=False,
    )
    op.alter_column(
        "steps",
        "dispatched_at",
        comment="infinity: its job has ended, it is not to be sent",
        existing_type=TIMESTAMP,
        existing_nullable=True,
    )
    op.execute("""
        UPDATE steps SET dispatched_at = 'infinity' FROM jobs
        WHERE jobs.id = job_id AND jobs.state IN ('succeeded', 'failed', 'canceled')
          AND steps.state = 'queued'
    """)
    _index_queues(["queue", "tenant", "rank", "job_id", "idx", "run_at"], in_flight="< 'infinity'")
    op.add_column(
        "steps",
        sa.Column(
            "outages",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="claims given back because a service was away; not among the attempts",
        ),
    )
    op.alter_column(
        "steps",
        "idx",
        comment="the number of a chunk or a delivery; else 0",
        existing_comment="the chunk's number; 0 for other kinds",
        existing_type=sa.Integer(),
        existing_nullable=False,
    )
    op.alter_column(
        "workers",
        "role",
        comment="cpu, model, deliver or beat",
        existing_comment="cpu, model or beat",
        existing_type=sa.Text(),
        existing_nullable=False,
    )
    op.add_column(
        "workers",
        sa.Column(
            "suspect_step",
            sa.BigInteger(),
            comment="the step its model hears alone now, as an attempt before this one has failed",
        ),
    )
    op.create_index(
        "ix_steps_waiting_in_lanes",
        "steps",
        ["lane", "run_at"],
        postgresql_where=sa.text("lane IS NOT NULL AND state = 'queued' AND dispatched_at IS NULL"),
    )
    _allow_kinds("prepare", "detect", "transcribe", "finish", "deliver")


def downgrade() -> None:
    """Revert; what the older schema cannot hold is lost."""
    op.execute("DELETE FROM steps WHERE kind = 'deliver'")
    _allow_kinds("prepare", "detect", "transcribe", "finish")
    op.drop_column("steps", "outages")
    op.execute("UPDATE steps SET dispatched_at = NULL WHERE dispatched_at = 'infinity'")
    _index_queues(["job_id", "queue", "idx"], in_flight="IS NOT NULL")
    op.alter_column(
        "steps",
        "dispatched_at",
        existing_comment="infinity: its job has ended, it is not to be sent",
        comment=None,
        existing_type=TIMESTAMP,
        existing_nullable=True,
    )
    op.drop_column("steps", "rank")
    op.drop_column("steps", "tenant")
    op.drop_column("steps", "lane")
    op.drop_column("workers", "suspect_step")
    op.alter_column(
        "workers",
        "role",
        comment="cpu, model or beat",
        existing_comment="cpu, model, deliver or beat",
        existing_type=sa.Text(),
        existing_nullable=False,
    )
    op.alter_column(
        "steps",
        "idx",
        comment="the chunk's number; 0 for other kinds",
        existing_comment="the number of a chunk or a delivery; else 0",
        existing_type=sa.Integer(),
        existing_nullable=False,
    )
    op.drop_index(op.f("ix_job_events_job_id_id"), "job_events")
    op.create_index(op.f("ix_job_events_job_id"), "job_events", ["job_id"])
    for index in ("ix_jobs_with_transcript", "ix_jobs_with_audio", "ix_jobs_ended"):
        op.drop_index(index, "jobs")
    for column in (
        "transcript_deleted_at",
        "audio_deleted_at",
        "transcribing_since",
        "audio_kept_s",
        "percent_done",
        "planned_share",
        "audio_planned_s",
        "run",
        "webhook_endpoint_id",
        "result_url",
        "metadata",
    ):
        op.drop_column("jobs", column)
    for table in (
        "webhook_attempts",
        "webhook_deliveries",
        "webhook_events",
        "webhook_endpoints",
        "removals",
    ):
        op.drop_table(table)


def _allow_kinds(*kinds: str) -> None:
    op.drop_constraint("ck_steps_kind", "steps")
    allowed = ", ".join(f"'{kind}'" for kind in kinds)
    op.create_check_constraint(op.f("ck_steps_kind"), "steps", f"kind IN ({allowed})")


def _index_queues(waiting: list[str], in_flight: str) -> None:
    op.drop_index("ix_steps_waiting", "steps")
    op.drop_index("ix_steps_in_flight", "steps")
    op.create_index(
        "ix_steps_waiting",
        "steps",
        waiting,
        postgresql_where=sa.text("state = 'queued' AND dispatched_at IS NULL"),
    )
    op.create_index(
        "ix_steps_in_flight",
        "steps",
        ["queue", "job_id"],
        postgresql_where=sa.text(
            f"state = 'running' OR state = 'queued' AND dispatched_at {in_flight}"
        ),
    )
