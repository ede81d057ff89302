"""which unexpected error a step met last, and a worker at every step of a kind"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "steps",
        sa.Column(
            "bug",
            sa.Text(),
            nullable=True,
            comment="fingerprint of the unexpected error that ended the last attempt",
        ),
    )
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
            "kind IN ('prepare', 'detect', 'transcribe', 'finish', 'deliver')",
            name=op.f("ck_worker_kinds_kind"),
        ),
        sa.ForeignKeyConstraint(
            ["worker_id"],
            ["workers.id"],
            name=op.f("fk_worker_kinds_worker_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("worker_id", "kind", name=op.f("pk_worker_kinds")),
        comment="What became of each kind of step at a worker, since the worker's start.",
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("worker_kinds")
    op.drop_column("steps", "bug")
