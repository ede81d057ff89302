"""when each queue was last served, and steps that are due by queue"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

DUE = (
    "state = 'queued' AND kind <> 'deliver'"
    " AND (dispatched_at IS NULL OR dispatched_at < 'infinity')"
)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "served_queues",
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("last_served_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("queue", name="pk_served_queues"),
        comment="When a worker that is gone last served a queue; the living are in workers.",
    )
    op.create_index("ix_steps_due", "steps", ["queue", "run_at"], postgresql_where=sa.text(DUE))


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_steps_due", "steps")
    op.drop_table("served_queues")
