"""canceled jobs keep their decoded audio for a retry; those canceled before give up all of it"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    # Their decoded audio was removed when they were canceled, so that a retry would find none.
    op.execute("""
        WITH given_up AS (
            UPDATE jobs SET audio_deleted_at = now()
            WHERE state = 'canceled' AND audio_deleted_at IS NULL
            RETURNING id
        ), told AS (
            INSERT INTO job_events (job_id, event) SELECT id, 'job.audio_removed' FROM given_up
        )
        INSERT INTO removals (prefix, due_at, again_at)
        SELECT 'jobs/' || id || '/', now(), now() + interval '15 minutes' FROM given_up
        ON CONFLICT (prefix) DO NOTHING
    """)


def downgrade() -> None:
    """Undo."""
