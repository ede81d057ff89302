"""The schema: whether this version works on the database's, and its migration."""

import logging
import time
from pathlib import Path
from typing import NamedTuple

from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from shared.infra.database import make_engine, read, text
from shared.infra.errors import DatabaseUnavailable, DatabaseUnfit, SchemaMissing
from shared.infra.settings import Settings
from shared.infra.sqlstates import UNREACHABLE

MIGRATIONS = Path(__file__).parents[2] / "migrations"

_MIGRATION_LIMIT_S = 600.0
"""How long a migration tries to get its locks. A transaction that holds one for longer is an
operator's, or a backup's."""
_MIGRATION_PAUSE_S = 2.0
"""Twice as long as a migration waits for a lock: what queued behind it is through by then."""

log = logging.getLogger(__name__)

# Alembic logs a line for each of its plugins at every start.
logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)


def migrate(settings: Settings) -> None:
    """Migrate the schema to this tree's revision; waits for a concurrent migration.

    A newer schema on which this version works stays as it is. A migration that cannot lock a table
    at once is tried again for ``_MIGRATION_LIMIT_S``, with pauses in which the platform works.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached, or a table stays locked.
        DatabaseUnfit: the database has an encoding other than UTF8, or a schema on which this
            version does not work.
    """
    engine = make_engine(settings, pool_size=1)
    try:
        check(engine)
        return
    except SchemaMissing:
        pass
    finally:
        engine.dispose()
    _upgrade(settings)


def _upgrade(settings: Settings) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    # ConfigParser interpolates %.
    url = settings.database_url.get_secret_value().replace("%", "%%")
    config.set_main_option("sqlalchemy.url", url)
    deadline = time.monotonic() + _MIGRATION_LIMIT_S
    while True:
        try:
            command.upgrade(config, "head")
            return
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable | DeadlockDetected):
                raise DatabaseUnavailable(UNREACHABLE) from error
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(
                    "the migration could not lock a table: transactions that use it do not end"
                ) from error
        log.warning("the migration waits: transactions use a table that it changes")
        time.sleep(_MIGRATION_PAUSE_S)


class _Schema(NamedTuple):
    """What ``alembic_version`` says."""

    revision: str
    compatible_from: str | None
    """The revision of the oldest application that works on it."""


def check(engine: Engine) -> str:
    """Check that this version works on the database's schema, and return its revision.

    It works on its own, and on a newer one whose migration says so.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
        SchemaMissing: migrations of this tree have not been applied yet.
        DatabaseUnfit: it has an encoding other than UTF8, or a schema on which this version does
            not work, and will not after a migration.
    """
    schema = _read_schema(engine)
    own = own_revision()
    if schema is None:
        raise SchemaMissing(f"the database lacks this version's schema: {_MIGRATE}")
    if schema.revision < min(_revisions()):
        raise DatabaseUnfit(
            "the database was made by a version of Longhand that is too old to be upgraded: "
            "begin with an empty one (./longhand: with another data directory)"
        )
    if schema.revision < own:
        raise SchemaMissing(
            f"the database has schema {schema.revision}, and this version needs {own}: {_MIGRATE}"
        )
    oldest = schema.compatible_from or schema.revision
    if schema.revision > own and oldest > own:
        raise DatabaseUnfit(
            f"the database has schema {schema.revision} of a newer version of Longhand, on which "
            f"this version, of schema {own}, does not work: upgrade this process"
        )
    return schema.revision


def _read_schema(engine: Engine) -> _Schema | None:
    """Return the schema that was migrated to; None: none."""
    with read(engine) as connection:
        encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
        if encoding != "UTF8":
            raise DatabaseUnfit(
                f"the database's encoding is {encoding}, not UTF8, in which transcripts are kept: "
                "create it with ENCODING 'UTF8' TEMPLATE template0"
            )
        if not connection.execute(text("SELECT to_regclass('alembic_version')")).scalar_one():
            return None
        row = connection.execute(
            # As JSON, in which a column that does not exist is null.
            text("""
                SELECT version_num, to_jsonb(alembic_version) ->> 'compatible_from'
                FROM alembic_version
            """)
        ).one_or_none()
    return None if row is None else _Schema(*row)


_MIGRATE = "run `python -m worker migrate`"


def own_revision() -> str:
    """Return the revision of the schema that this tree is written for."""
    return max(_revisions())


def _revisions() -> set[str]:
    # Importing Alembic for the revisions would delay the start of every process.
    return {path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("*.py")}
