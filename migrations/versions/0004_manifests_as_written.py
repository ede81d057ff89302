"""manifests are kept as they were written"""

from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COMMENT = "shared.speech.manifest.Manifest, of the transcript"
OLD_COMMENT = "what it takes to explain and repeat the transcript"


def upgrade() -> None:
    """Apply."""
    op.alter_column(
        "jobs",
        "manifest",
        type_=postgresql.JSON(),
        comment=COMMENT,
        existing_comment=OLD_COMMENT,
        postgresql_using="manifest::json",
    )


def downgrade() -> None:
    """Undo."""
    op.alter_column(
        "jobs",
        "manifest",
        type_=postgresql.JSONB(),
        comment=OLD_COMMENT,
        existing_comment=COMMENT,
        postgresql_using="manifest::jsonb",
    )
