"""The connection to Postgres, and how its absence is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy
from psycopg.errors import IdleInTransactionSessionTimeout
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.errors import CommitUncertain, DatabaseUnavailable
from shared.settings import Settings

_CONNECT_TIMEOUT_S = 2
"""libpq's least. A caller who waits longer is better served by 503 and Retry-After."""
_IDLE_IN_TRANSACTION_MS = 10_000
"""A process frozen within a transaction keeps its row locks; the job must not freeze with it."""
_TCP_USER_TIMEOUT_MS = 15_000
"""A server that vanished without a word is noticed before a lease of 30 s runs out."""

MIGRATIONS = Path(__file__).parent.parent / "migrations"


def make_engine(settings: Settings, *, pool_size: int = 10) -> Engine:
    """Return an engine that connects on first use; one per process, never shared over a fork."""
    return sqlalchemy.create_engine(
        settings.database_url.get_secret_value(),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=5,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "tcp_user_timeout": _TCP_USER_TIMEOUT_MS,
            "options": f"-c idle_in_transaction_session_timeout={_IDLE_IN_TRANSACTION_MS}",
            "application_name": "longhand",
        },
    )


@contextmanager
def begin(engine: Engine) -> Iterator[Connection]:
    """Run a transaction: committed on leaving, rolled back on an exception.

    Raises:
        DatabaseUnavailable: no connection could be had, or it broke; nothing was written.
        CommitUncertain: it broke during the commit; all or nothing was written.
    """
    unavailable: type[DatabaseUnavailable] = DatabaseUnavailable
    try:
        with engine.begin() as connection:
            yield connection
            unavailable = CommitUncertain  # only the commit is left
    except PoolTimeout as error:
        raise DatabaseUnavailable("every connection to Postgres is in use") from error
    except (OperationalError, InterfaceError) as error:
        raise unavailable("Postgres cannot be reached") from error
    except DBAPIError as error:
        # This one class of a lost session is no OperationalError to psycopg.
        timed_out = isinstance(error.orig, IdleInTransactionSessionTimeout)
        if error.connection_invalidated or timed_out:
            raise unavailable("the connection to Postgres broke") from error
        raise


def ping(engine: Engine) -> None:
    """Make one round trip.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        connection.execute(text("SELECT 1"))


def migrate(settings: Settings) -> None:
    """Bring the schema to this tree's revision; waits for another migration under way.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    # ConfigParser's own interpolation character must be doubled.
    url = settings.database_url.get_secret_value().replace("%", "%%")
    config.set_main_option("sqlalchemy.url", url)
    try:
        command.upgrade(config, "head")
    except OperationalError as error:
        raise DatabaseUnavailable("Postgres cannot be reached") from error


def schema_is_current(engine: Engine) -> bool:
    """Tell whether all migrations of this tree have been applied.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    expected = set(ScriptDirectory(str(MIGRATIONS)).get_heads())
    with begin(engine) as connection:
        return set(MigrationContext.configure(connection).get_current_heads()) == expected
