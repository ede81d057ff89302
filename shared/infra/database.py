"""The connection to Postgres, and how it is told that it is away or not what we need."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy
from psycopg.errors import IdleInTransactionSessionTimeout, UndefinedColumn, UndefinedTable
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.infra.errors import CommitUncertain, DatabaseUnavailable, DatabaseUnfit, SchemaMissing
from shared.infra.settings import Settings

_CONNECT_TIMEOUT_S = 2
"""libpq's least. A caller who waits longer is better served by 503 and Retry-After."""
_IDLE_IN_TRANSACTION_MS = 10_000
"""A process frozen within a transaction keeps its row locks; the job must not freeze with it."""
_TCP_USER_TIMEOUT_MS = 15_000
"""A server that vanished without a word is noticed before a lease of 30 s runs out."""

_AFTER_COMMIT = "longhand_after_commit"

# It has a line for each of its plugins, at every start.
logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)

MIGRATIONS = Path(__file__).parents[2] / "migrations"


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
            # Whatever PGCLIENTENCODING says; and psycopg reads no text from a SQL_ASCII session, so
            # that not even the server's encoding could be asked for.
            "client_encoding": "UTF8",
        },
    )


@contextmanager
def begin(engine: Engine) -> Iterator[Connection]:
    """Run a transaction: committed on leaving, rolled back on an exception.

    Raises:
        DatabaseUnavailable: no connection could be had, or it broke; nothing was written.
        CommitUncertain: it broke during the commit; all or nothing was written.
        SchemaMissing: a table or column is missing, and so are migrations.
        DatabaseUnfit: a table or column is missing in the schema of a newer version.
    """
    unavailable: type[DatabaseUnavailable] = DatabaseUnavailable
    try:
        with engine.begin() as connection:
            connection.info.pop(_AFTER_COMMIT, None)  # of a transaction that was rolled back
            yield connection
            actions = connection.info.pop(_AFTER_COMMIT, ())
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
        if isinstance(error.orig, UndefinedTable | UndefinedColumn):
            check(engine)  # perhaps the statement is right, and the schema is not
        raise
    for action in actions:
        action()


def after_commit(connection: Connection, action: Callable[[], None]) -> None:
    """Do something once the transaction that ``begin`` runs is committed; it must not fail."""
    connection.info.setdefault(_AFTER_COMMIT, []).append(action)


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
        DatabaseUnfit: the database has an encoding other than UTF8, or a newer version's schema.
    """
    from alembic import command
    from alembic.config import Config

    engine = make_engine(settings, pool_size=1)
    try:
        check(engine)
        return
    except SchemaMissing:
        pass
    finally:
        engine.dispose()

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    # ConfigParser's own interpolation character must be doubled.
    url = settings.database_url.get_secret_value().replace("%", "%%")
    config.set_main_option("sqlalchemy.url", url)
    try:
        command.upgrade(config, "head")
    except OperationalError as error:
        raise DatabaseUnavailable("Postgres cannot be reached") from error


def check(engine: Engine) -> None:
    """See that the database is one to work with: of our encoding, with exactly our migrations.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
        SchemaMissing: migrations of this tree have not been applied yet.
        DatabaseUnfit: it has an encoding other than UTF8, or a newer version's schema.
    """
    with begin(engine) as connection:
        _check_encoding(connection)
        applied = set()
        if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar_one():
            applied = set(
                connection.execute(text("SELECT version_num FROM alembic_version")).scalars()
            )
    # By the names of their files: to import Alembic for it would delay every process's start.
    known = {path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("*.py")}
    if applied == {max(known)}:
        return
    if applied and max(applied) < min(known):
        raise DatabaseUnfit(
            "the database was made by a version of Longhand that is too old to be upgraded: "
            "begin with an empty one (./longhand: with another data directory)"
        )
    if applied - known:
        raise DatabaseUnfit("the database has the schema of a newer version of Longhand")
    raise SchemaMissing("the database lacks this version's schema: run `python -m worker migrate`")


def _check_encoding(connection: Connection) -> None:
    encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise DatabaseUnfit(
            f"the database's encoding is {encoding}, not UTF8, in which transcripts are kept: "
            "create it with ENCODING 'UTF8' TEMPLATE template0"
        )
