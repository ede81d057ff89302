"""The migrations of a version to come: those of this tree and two more.

They do what later migrations may do while this version's processes work: a column with a default,
another table, an index that is made concurrently.
"""

import shutil
from pathlib import Path

from shared.infra.schema import MIGRATIONS

EXPANDED, NEWEST = "9001", "9002"
"""The revisions of the two."""

_EXPAND = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, compatible_from = "9001", {before!r}, {oldest!r}
branch_labels = depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("mood", sa.Text, server_default="calm", nullable=False))
    op.add_column("steps", sa.Column("mood", sa.Text, server_default="calm", nullable=False))
    op.create_table("moods", sa.Column("name", sa.Text, primary_key=True))


def downgrade() -> None:
    op.drop_table("moods")
    op.drop_column("steps", "mood")
    op.drop_column("jobs", "mood")
"""

_INDEX = """
from alembic import op

revision, down_revision, compatible_from = "9002", "9001", {oldest!r}
branch_labels = depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_jobs_mood")
        op.execute("CREATE INDEX CONCURRENTLY ix_jobs_mood ON jobs (mood)")


def downgrade() -> None:
    op.execute("DROP INDEX ix_jobs_mood")
"""


def newer_migrations(folder: Path, *, compatible_from: str | None = None) -> Path:
    """Make the folder of migrations of a version on whose schema older applications work.

    ``compatible_from``: the oldest of them; None: this one.
    """
    target = folder / "migrations"
    shutil.copytree(MIGRATIONS, target, ignore=shutil.ignore_patterns("__pycache__"))
    before = max(path.name.partition("_")[0] for path in (target / "versions").glob("*.py"))
    oldest = compatible_from or before
    for name, script in (("9001_expand", _EXPAND), ("9002_index", _INDEX)):
        text = script.format(before=before, oldest=oldest)
        (target / "versions" / f"{name}.py").write_text(text)
    return target
