"""The connection to Postgres: transactions, single statements, and the errors of an outage.

The pool does not ask a connection whether it still works, which would cost a round trip for every
transaction. If the server has closed an idle connection, its socket has something to read; such a
connection is replaced before anything is executed on it, so nothing is done twice.
"""

import select
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any, LiteralString, NoReturn

import psycopg
import psycopg.sql
import sqlalchemy
from psycopg.errors import UndefinedColumn, UndefinedTable
from psycopg.rows import dict_row
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.infra.driver import DirectConnection, Driver, DriverCursor, driver_of
from shared.infra.errors import CommitUncertain, DatabaseUnavailable
from shared.infra.settings import Settings
from shared.infra.sqlstates import UNREACHABLE, outage_of
from shared.infra.tracing import Kind, Span, child

_CONNECT_TIMEOUT_S = 2
"""libpq's minimum. A caller that would wait longer is better served by 503 and Retry-After."""
_POOL_TIMEOUT_S = 5.0
"""Longest wait for a connection of the pool while all are in use."""
_IDLE_IN_TRANSACTION_MS = 10_000
"""Longest time that a process frozen within a transaction keeps its row locks."""
_TCP_USER_TIMEOUT_MS = 15_000
"""Longest silence of the server's kernel while it owes an acknowledgement: a server that has
vanished is noticed before a lease of 30 s expires."""
_KEEPALIVE_S = 5
"""Seconds of silence after which either kernel asks the other for an acknowledgement. So an outage
is noticed also while only an answer is awaited. TCP sends a lost answer again as late after an
outage as that was long."""
_MISSED_KEEPALIVES = 2
"""The server ends a session whose client's kernel has missed so many in a row. No other limit
counts while a session awaits the rest of a statement, and it keeps its row locks meanwhile."""
_STATEMENT_LEAD_S = 1.0
"""The server gives up this much earlier than the client: a slow statement is canceled, and its
connection stays."""

_LISTEN_S = 1.0
"""Interval at which a listener looks whether it is to end."""
_SILENT_ROUNDS = 30
"""Number of these intervals without a message after which it asks the server for an answer."""

EVERY_TENANT = "*"
"""In place of a tenant: the rows of all. Row-level security binds the API's role alone; without a
tenant that role sees nobody's rows, so a forgotten one shows nothing."""

_AFTER_COMMIT = "longhand_after_commit"
"""Key in ``Connection.info`` of what is called after the commit."""

text = lru_cache(maxsize=512)(sqlalchemy.text)
"""SQLAlchemy's ``text``, which searches a statement for its parameters each time it is called."""


def make_engine(
    settings: Settings,
    *,
    pool_size: int = 10,
    answer_s: float | None = None,
    sees_all: bool = False,
) -> Engine:
    """Return an engine that connects on first use; one per process, not shared over a fork.

    It keeps up to ``pool_size`` connections open; as many more may be in use at once. An answer may
    take ``answer_s``, and the server cancels the statement a second before. None: the client waits
    for a minute, and statements have no limit. ``sees_all``: row-level security does not bind the
    role, as it does not bind the workers', so no transaction names a tenant.
    """
    options = (
        f"-c idle_in_transaction_session_timeout={_IDLE_IN_TRANSACTION_MS}"
        f" -c tcp_keepalives_idle={_KEEPALIVE_S} -c tcp_keepalives_interval={_KEEPALIVE_S}"
        f" -c tcp_keepalives_count={_MISSED_KEEPALIVES}"
    )
    if answer_s is not None:
        options += f" -c statement_timeout={round(1000 * (answer_s - _STATEMENT_LEAD_S))}"
    engine = sqlalchemy.create_engine(
        settings.database_url.get_secret_value(),
        pool_size=pool_size,
        max_overflow=pool_size,
        # The connection used last has all statements prepared, and its server process is warm.
        pool_use_lifo=True,
        pool_timeout=_POOL_TIMEOUT_S,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "cursor_factory": DriverCursor,
            "tcp_user_timeout": _TCP_USER_TIMEOUT_MS,
            "keepalives_idle": _KEEPALIVE_S,
            "keepalives_interval": _KEEPALIVE_S,
            "options": options,
            "application_name": "longhand",
            # Overrides PGCLIENTENCODING. In a SQL_ASCII session psycopg returns text as bytes, so
            # even the server's encoding could not be read.
            "client_encoding": "UTF8",
        },
    )

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: object, _record: object, arguments: Any, parameters: Any) -> Driver:
        connection = Driver.connect(*arguments, **parameters)
        if answer_s is not None:
            connection.answer_s = answer_s
        connection.sees_all = sees_all
        return connection

    event.listen(engine, "checkout", _replace_if_closed)
    return engine


def _replace_if_closed(connection: Driver, _record: object, _proxy: object) -> None:
    """Have the pool replace a connection on which the server sent something while it was idle.

    Mostly that is its end; a mere notice (of a changed parameter, say) costs a new connection.
    It forgets its tenant.
    """
    connection.tenant, connection.single = None, False
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    if poll.poll(0):
        raise DisconnectionError("closed by the server")


def begin(engine: Engine, tenant: str | None = None) -> AbstractContextManager[Connection]:
    """Run a transaction: committed on leaving, rolled back on an exception.

    Under the API's role it sees the rows of ``tenant``, of nobody without one; other roles see all.

    Raises:
        DatabaseUnavailable: there is no connection, it broke, or Postgres refuses the work for now
            (the subclass and the message say why); nothing was written.
        CommitUncertain: it broke during the commit; all or nothing was written.
        SchemaMissing: a table or column is missing, and so are migrations.
        DatabaseUnfit: a table or column is missing in the schema of a newer version.
    """
    return _connected(engine, tenant)


def read(engine: Engine, tenant: str | None = None) -> AbstractContextManager[Connection]:
    """Run statements that only read, each in its own snapshot: one round trip each, no transaction.

    ``tenant``: as of ``begin``.

    Raises:
        DatabaseUnavailable, SchemaMissing, DatabaseUnfit: as ``begin``.
    """
    return _connected(engine, tenant, autocommit=True, writes=False)


def single(engine: Engine, tenant: str | None = None) -> AbstractContextManager[Connection]:
    """Run one statement that is a transaction by itself: one round trip instead of three.

    ``tenant``: as of ``begin``.

    Raises:
        CommitUncertain: the connection broke; all or nothing was written.
        DatabaseUnavailable, SchemaMissing, DatabaseUnfit: as ``begin``.
    """
    return _connected(engine, tenant, autocommit=True)


@contextmanager
def _connected(
    engine: Engine, tenant: str | None, *, autocommit: bool = False, writes: bool = True
) -> Iterator[Connection]:
    committing = autocommit and writes
    actions: list[Callable[[], None]] = []
    try:
        with _traced(), DirectConnection(engine) as connection:
            connection.info[_AFTER_COMMIT] = actions
            driver = driver_of(connection)
            driver.tenant = None if driver.sees_all else tenant
            driver.single = autocommit
            if not autocommit:
                connection.begin()
            yield connection
            if not autocommit:
                committing = True
                connection.commit()
    except (PoolTimeout, DBAPIError, psycopg.Error) as error:
        _raise_translated(engine, error, committing=committing)
    for action in actions:
        action()


def _traced() -> AbstractContextManager[Span]:
    """Have the time for which a connection is waited for and held be a span."""
    return child("postgresql", Kind.CLIENT, {"db.system.name": "postgresql"})


def fetch(
    connection: Connection, query: LiteralString, parameters: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the rows of a query as dictionaries. Parameters are ``%(name)s``.

    They cost less than SQLAlchemy's rows.
    """
    with (
        _told_when_broken(connection),
        driver_of(connection).cursor(row_factory=dict_row) as cursor,
    ):
        return cursor.execute(query, parameters).fetchall()


@contextmanager
def _told_when_broken(connection: Connection) -> Iterator[None]:
    """Tell SQLAlchemy of a connection that breaks in the driver, so that it is not reset."""
    driver = driver_of(connection)
    try:
        yield
    except psycopg.Error:
        if driver.closed:
            connection.invalidate()
        raise


def _raise_translated(
    engine: Engine, error: PoolTimeout | DBAPIError | psycopg.Error, *, committing: bool
) -> NoReturn:
    """Raise the outage that an error of Postgres means; the error itself if it is a bug of ours."""
    if isinstance(error, PoolTimeout):
        raise DatabaseUnavailable("every connection to Postgres is in use") from error
    outage = outage_of(error)
    if committing and isinstance(error, DBAPIError) and error.connection_invalidated:
        outage = CommitUncertain(str(outage))
    if outage is not None:
        raise outage from error
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, UndefinedTable | UndefinedColumn):
        from shared.infra.schema import check  # which reads it by this module

        check(engine)  # perhaps the statement is right, and the schema is not
    raise error


def after_commit(connection: Connection, action: Callable[[], None]) -> None:
    """Have ``begin`` or ``single`` call ``action``, which must not fail, after the commit.

    It is not called after a rollback, nor when nobody knows whether the commit happened.
    """
    connection.info.setdefault(_AFTER_COMMIT, []).append(action)


def listen(engine: Engine, *channels: str) -> Iterator[list[tuple[str, str]]]:
    """Yield messages, each with its channel; an empty list after each second without one.

    It has a connection of its own, which the engine's pool does not count.

    Raises:
        DatabaseUnavailable: there is no connection, or it broke.
    """
    try:
        with engine.connect() as pooled, _told_when_broken(pooled):
            connection: Any = pooled.connection.driver_connection
            pooled.detach()
            connection.autocommit = True
            for channel in channels:
                name = psycopg.sql.Identifier(channel)
                connection.execute(psycopg.sql.SQL("LISTEN {}").format(name))
            n_silent = 0
            while True:
                notices = connection.notifies(timeout=_LISTEN_S, stop_after=1)
                messages = [(notice.channel, notice.payload) for notice in notices]
                n_silent = 0 if messages else n_silent + 1
                if n_silent == _SILENT_ROUNDS:  # the server may have vanished
                    connection.execute("SELECT 1")
                    n_silent = 0
                yield messages
    except (PoolTimeout, DBAPIError, psycopg.Error) as error:
        raise DatabaseUnavailable(UNREACHABLE) from error
