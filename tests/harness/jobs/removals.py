"""Objects on their way out, for tests: the clock moved on until all of them are gone."""

from collections.abc import Sequence

from sqlalchemy import Engine, text

from shared.infra.storage import Storage
from shared.store.objects.remover import remove_due


def pending(database: Engine) -> Sequence[str]:
    """Return the prefixes that are to be removed, some day."""
    with database.begin() as connection:
        rows = connection.execute(text("SELECT prefix FROM removals ORDER BY prefix"))
        return rows.scalars().all()


def move_clock_on(database: Engine) -> None:
    """Make whatever is to be removed some day due now."""
    with database.begin() as connection:
        connection.execute(text("UPDATE removals SET due_at = now(), taken_at = NULL"))


def remove_all(database: Engine, storage: Storage) -> None:
    """Do what a sweeper has done in the end: what is due, and then what is due once more."""
    while pending(database):
        move_clock_on(database)
        assert remove_due(database, storage) > 0
