"""job options as one document, equal jobs that share a transcript, transcripts in segments"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "jobs", sa.Column("options", JSONB, comment="shared.models.options.ResolvedOptions")
    )
    op.execute("""
        UPDATE jobs SET options = jsonb_build_object(
            'model', model, 'language', language, 'task', 'transcribe', 'prompt', NULL,
            'hotwords', NULL, 'vad', vad, 'multichannel', false, 'multilingual', false
        )
    """)
    op.alter_column("jobs", "options", nullable=False)
    op.drop_column("jobs", "language")
    op.drop_column("jobs", "vad")
    op.add_column(
        "jobs",
        sa.Column(
            "fingerprint",
            sa.Text(),
            comment="of audio, model and options; null: not to be shared",
        ),
    )
    op.add_column(
        "jobs",
        sa.Column("original_id", sa.UUID(), comment="the equal job whose transcript this one gets"),
    )
    op.create_foreign_key(
        op.f("fk_jobs_original_id"), "jobs", "jobs", ["original_id"], ["id"], ondelete="SET NULL"
    )
    op.add_column(
        "jobs",
        sa.Column("cached", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "detected_language", sa.Text(), comment="of the whole, where one was to be detected"
        ),
    )
    op.add_column("jobs", sa.Column("detected_probability", sa.REAL()))
    op.add_column(
        "jobs",
        sa.Column("reference", sa.Text(), comment="what was really said, as the client says"),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "accuracy", JSONB, comment="shared.speech.accuracy.Accuracy, against the reference"
        ),
    )
    op.add_column("jobs", sa.Column("transcript_id", sa.UUID(), comment="equal jobs share one"))
    op.create_index(
        "ix_jobs_original",
        "jobs",
        ["tenant", "fingerprint"],
        postgresql_where=sa.text(
            "original_id IS NULL AND state IN ('queued', 'running', 'succeeded')"
        ),
    )
    op.create_index(
        op.f("ix_jobs_original_id"),
        "jobs",
        ["original_id"],
        postgresql_where=sa.text("original_id IS NOT NULL"),
    )
    op.create_index(op.f("ix_jobs_transcript_id"), "jobs", ["transcript_id"])
    op.create_index(
        "ix_jobs_unmeasured",
        "jobs",
        ["id"],
        postgresql_where=sa.text(
            "state = 'succeeded' AND reference IS NOT NULL AND accuracy IS NULL"
        ),
    )

    op.drop_constraint("fk_transcripts_job_id", "transcripts")
    op.alter_column(
        "transcripts", "job_id", new_column_name="id", comment="of the job that made it"
    )
    op.create_table(
        "transcript_segments",
        sa.Column("transcript_id", sa.UUID(), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column("document", JSONB, nullable=False, comment="shared.speech.transcript.Segment"),
        sa.ForeignKeyConstraint(
            ["transcript_id"],
            ["transcripts.id"],
            name=op.f("fk_transcript_segments_transcript_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("transcript_id", "idx", name=op.f("pk_transcript_segments")),
        comment="One row per segment: a long transcript is written and read in pieces.",
    )
    op.execute("""
        INSERT INTO transcript_segments (transcript_id, idx, document)
        SELECT id, n - 1, segment
        FROM transcripts,
             jsonb_array_elements(document -> 'segments') WITH ORDINALITY AS s (segment, n)
    """)
    op.execute("UPDATE transcripts SET document = document - 'segments' - 'text' - 'warnings'")
    op.alter_column(
        "transcripts",
        "document",
        new_column_name="header",
        comment="shared.speech.transcript.TranscriptHeader",
    )
    op.execute(
        "UPDATE jobs SET transcript_id = transcripts.id FROM transcripts "
        "WHERE transcripts.id = jobs.id"
    )
    op.create_foreign_key(
        op.f("fk_jobs_transcript_id"), "jobs", "transcripts", ["transcript_id"], ["id"]
    )

    op.drop_constraint("ck_steps_kind", "steps")
    op.create_check_constraint(
        op.f("ck_steps_kind"), "steps", "kind IN ('prepare', 'detect', 'transcribe', 'finish')"
    )

    op.execute("DELETE FROM workers")  # those alive enter themselves again
    op.add_column(
        "workers", sa.Column("state", sa.Text(), nullable=False, comment="loading or ready")
    )
    op.add_column(
        "workers",
        sa.Column("dtype", sa.Text(), comment="what a model worker's device computes in"),
    )
    op.add_column(
        "workers",
        sa.Column("warm_up_s", sa.REAL(), comment="seconds its first second of audio took"),
    )


def downgrade() -> None:
    """Revert; what the older schema cannot hold is lost."""
    for column in ("warm_up_s", "dtype", "state"):
        op.drop_column("workers", column)
    op.execute("DELETE FROM steps WHERE kind = 'detect'")
    op.drop_constraint("ck_steps_kind", "steps")
    op.create_check_constraint(
        op.f("ck_steps_kind"), "steps", "kind IN ('prepare', 'transcribe', 'finish')"
    )
    op.drop_constraint("fk_jobs_transcript_id", "jobs")
    op.alter_column(
        "transcripts",
        "header",
        new_column_name="document",
        comment="shared.speech.transcript.Transcript",
    )
    op.execute("""
        UPDATE transcripts SET document = document || jsonb_build_object(
            'warnings', '[]'::jsonb,
            'text', coalesce((
                SELECT string_agg(document ->> 'text', ' ' ORDER BY idx)
                FROM transcript_segments WHERE transcript_id = transcripts.id
            ), ''),
            'segments', coalesce((
                SELECT jsonb_agg(document ORDER BY idx)
                FROM transcript_segments WHERE transcript_id = transcripts.id
            ), '[]'::jsonb)
        )
    """)
    op.drop_table("transcript_segments")
    op.execute("DELETE FROM transcripts WHERE id NOT IN (SELECT id FROM jobs)")
    op.alter_column("transcripts", "id", new_column_name="job_id", comment=None)
    op.create_foreign_key(
        op.f("fk_transcripts_job_id"), "transcripts", "jobs", ["job_id"], ["id"], ondelete="CASCADE"
    )
    op.drop_index("ix_jobs_unmeasured", "jobs")
    op.drop_index("ix_jobs_transcript_id", "jobs")
    op.drop_index("ix_jobs_original_id", "jobs")
    op.drop_index("ix_jobs_original", "jobs")
    op.add_column("jobs", sa.Column("vad", sa.Text()))
    op.add_column(
        "jobs",
        sa.Column("language", sa.Text(), comment="as requested; null lets the model detect it"),
    )
    op.execute("UPDATE jobs SET vad = options ->> 'vad', language = options ->> 'language'")
    op.alter_column("jobs", "vad", nullable=False)
    for column in (
        "transcript_id",
        "accuracy",
        "reference",
        "detected_probability",
        "detected_language",
        "cached",
        "original_id",
        "fingerprint",
        "options",
    ):
        op.drop_column("jobs", column)
