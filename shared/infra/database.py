"""The connection to Postgres: transactions, single reads, and what an outage looks like.

A connection that lies in the pool is not asked whether it still works (a round trip for every
transaction). Whether the server has closed it can be seen without asking: an idle connection has
nothing to say, so one with something to read is replaced. That happens before anything is executed
on it, so nothing can be done twice.
"""

import logging
import select
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString, NoReturn, cast

import psycopg
import psycopg.sql
import sqlalchemy
from psycopg.errors import UndefinedColumn, UndefinedTable, _WaitTimeout
from psycopg.rows import dict_row
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.infra.errors import CommitUncertain, DatabaseUnavailable, DatabaseUnfit, SchemaMissing
from shared.infra.settings import Settings
from shared.infra.sqlstates import UNREACHABLE, outage_of

_CONNECT_TIMEOUT_S = 2
"""libpq's least. A caller who waits longer is better served by 503 and Retry-After."""
_POOL_TIMEOUT_S = 5.0
"""How long a caller waits for one of the pool's connections while all are in use."""
_IDLE_IN_TRANSACTION_MS = 10_000
"""A process frozen within a transaction keeps its row locks for no longer than this."""
_TCP_USER_TIMEOUT_MS = 15_000
"""A server that vanished without a word is noticed before a lease of 30 s runs out."""
_ANSWER_S = 60.0
"""How long a worker waits for one answer. A server that is frozen, while its kernel acknowledges
what is sent to it, is noticed by nothing else."""
_STATEMENT_LEAD_S = 1.0
"""How much earlier than the client the server gives up: a statement that is merely slow is
canceled, and the connection stays."""

_LISTEN_S = 1.0
"""How often a listener looks whether it is to end."""
_SILENT_ROUNDS = 30
"""After so many of these without a word it asks for an answer."""

# Alembic logs a line for each of its plugins at every start.
logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)

MIGRATIONS = Path(__file__).parents[2] / "migrations"

_AFTER_COMMIT = "longhand_after_commit"
"""In ``Connection.info``: what is to be called after the commit."""


class _Connection(psycopg.Connection[Any]):
    """A connection that waits for no answer longer than ``answer_s``; then it is closed."""

    answer_s = _ANSWER_S

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_s)
        except _WaitTimeout:
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {self.answer_s:g} s") from None


def make_engine(
    settings: Settings, *, pool_size: int = 10, answer_s: float | None = None
) -> Engine:
    """Return an engine that connects on first use; one per process, never shared over a fork.

    Args:
        settings: name the database.
        pool_size: connections kept; as many more may be in use at once.
        answer_s: longest wait for the answer to one statement; the server cancels it a second
            before. None: the client waits for a minute, and statements have no limit.
    """
    options = f"-c idle_in_transaction_session_timeout={_IDLE_IN_TRANSACTION_MS}"
    if answer_s is not None:
        options += f" -c statement_timeout={round(1000 * (answer_s - _STATEMENT_LEAD_S))}"
    engine = sqlalchemy.create_engine(
        settings.database_url.get_secret_value(),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=_POOL_TIMEOUT_S,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "tcp_user_timeout": _TCP_USER_TIMEOUT_MS,
            "options": options,
            "application_name": "longhand",
            # PGCLIENTENCODING must not change it, and psycopg reads no text from a SQL_ASCII
            # session: even the server's encoding could not be asked for.
            "client_encoding": "UTF8",
        },
    )

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: object, _record: object, arguments: Any, parameters: Any) -> _Connection:
        connection = _Connection.connect(*arguments, **parameters)
        if answer_s is not None:
            connection.answer_s = answer_s
        return connection

    event.listen(engine, "checkout", _replace_if_closed)
    return engine


def _replace_if_closed(connection: _Connection, _record: object, _proxy: object) -> None:
    """Have the pool replace a connection on which the server has sent something while it was idle.

    That is its end, mostly; a mere notice (of a changed parameter, say) costs a new connection.
    """
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    if poll.poll(0):
        raise DisconnectionError("closed by the server")


@contextmanager
def begin(engine: Engine) -> Iterator[Connection]:
    """Run a transaction: committed on leaving, rolled back on an exception.

    Raises:
        DatabaseUnavailable: no connection could be had, it broke, or Postgres refuses the work for
            now (the subclass and the sentence tell why); nothing was written.
        CommitUncertain: it broke during the commit; all or nothing was written.
        SchemaMissing: a table or column is missing, and so are migrations.
        DatabaseUnfit: a table or column is missing in the schema of a newer version.
    """
    committing = False
    actions: list[Callable[[], None]] = []
    try:
        with engine.begin() as connection:
            actions = connection.info[_AFTER_COMMIT] = []
            yield connection
            committing = True
    except PoolTimeout as error:
        raise DatabaseUnavailable("every connection to Postgres is in use") from error
    except (DBAPIError, psycopg.Error) as error:
        _raise_translated(engine, error, committing=committing)
    for action in actions:
        action()


@contextmanager
def read(engine: Engine) -> Iterator[Connection]:
    """Run statements that only read, each by itself: one round trip for each, no transaction.

    What several statements see is not of one moment.

    Raises:
        DatabaseUnavailable, SchemaMissing, DatabaseUnfit: as ``begin``.
    """
    try:
        with engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")
    except PoolTimeout as error:
        raise DatabaseUnavailable("every connection to Postgres is in use") from error
    except (DBAPIError, psycopg.Error) as error:
        _raise_translated(engine, error)


@contextmanager
def single(engine: Engine) -> Iterator[Connection]:
    """Run one statement that is a transaction by itself: one round trip instead of three.

    Raises:
        CommitUncertain: the connection broke; all or nothing was written.
        DatabaseUnavailable, SchemaMissing, DatabaseUnfit: as ``begin``.
    """
    actions: list[Callable[[], None]] = []
    try:
        with engine.connect() as connection:
            connection.info[_AFTER_COMMIT] = actions
            yield connection.execution_options(isolation_level="AUTOCOMMIT")
    except PoolTimeout as error:
        raise DatabaseUnavailable("every connection to Postgres is in use") from error
    except (DBAPIError, psycopg.Error) as error:
        _raise_translated(engine, error, committing=True)
    for action in actions:
        action()


def fetch(
    connection: Connection, query: LiteralString, parameters: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the rows of a query, by the driver alone: for what is read a thousand times a second.

    SQLAlchemy's own layers cost several times what the driver's do. Parameters are ``%(name)s``.
    """
    driver = cast(_Connection, connection.connection.driver_connection)
    with _told_when_broken(connection), driver.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, parameters).fetchall()


@contextmanager
def _told_when_broken(connection: Connection) -> Iterator[None]:
    """Tell SQLAlchemy of a connection that breaks in the driver's hands: it is not to be reset."""
    driver = cast(_Connection, connection.connection.driver_connection)
    try:
        yield
    except psycopg.Error:
        if driver.closed:
            connection.invalidate()
        raise


def _raise_translated(
    engine: Engine, error: DBAPIError | psycopg.Error, *, committing: bool = False
) -> NoReturn:
    """Raise what an error of Postgres means; the error itself where it is a bug of ours."""
    outage = outage_of(error)
    if committing and isinstance(error, DBAPIError) and error.connection_invalidated:
        outage = CommitUncertain(str(outage))
    if outage is not None:
        raise outage from error
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, UndefinedTable | UndefinedColumn):
        check(engine)  # perhaps the statement is right, and the schema is not
    raise error


def after_commit(connection: Connection, action: Callable[[], None]) -> None:
    """Have ``begin`` or ``single`` call ``action`` once the transaction is committed.

    Not if it is rolled back, nor if nobody knows whether it was committed. It must not fail.
    """
    connection.info.setdefault(_AFTER_COMMIT, []).append(action)


def listen(engine: Engine, channel: str) -> Iterator[list[str]]:
    """Yield what others notify on a channel, an empty list after each second without anything.

    On a connection of its own, which the engine's pool does not count.

    Raises:
        DatabaseUnavailable: no connection could be had, or it broke.
    """
    try:
        with engine.connect() as pooled, _told_when_broken(pooled):
            connection: Any = pooled.connection.driver_connection
            pooled.detach()
            connection.autocommit = True
            connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
            yield from _notified(connection)
    except (PoolTimeout, DBAPIError, psycopg.Error) as error:
        raise DatabaseUnavailable(UNREACHABLE) from error


def _notified(connection: Any) -> Iterator[list[str]]:
    n_silent = 0
    while True:
        notices = connection.notifies(timeout=_LISTEN_S, stop_after=1)
        messages = [notice.payload for notice in notices]
        n_silent = 0 if messages else n_silent + 1
        if n_silent == _SILENT_ROUNDS:  # a server that has vanished says nothing, either
            connection.execute("SELECT 1")
            n_silent = 0
        yield messages


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
        raise DatabaseUnavailable(UNREACHABLE) from error


def check(engine: Engine) -> None:
    """Check that the database has our encoding and exactly our migrations.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
        SchemaMissing: migrations of this tree have not been applied yet.
        DatabaseUnfit: it has an encoding other than UTF8, or a newer version's schema.
    """
    with read(engine) as connection:
        _check_encoding(connection)
        applied = set()
        if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar_one():
            applied = set(
                connection.execute(text("SELECT version_num FROM alembic_version")).scalars()
            )
    # Revisions are read from the files' names: importing Alembic would delay every process's start.
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
