"""The connection to Postgres: transactions, single statements, and the errors of an outage.

The pool does not ask a connection whether it still works, which would cost a round trip for every
transaction. If the server has closed an idle connection, its socket has something to read; such a
connection is replaced before anything is executed on it, so nothing is done twice.
"""

import logging
import select
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, LiteralString, NamedTuple, NoReturn, Self, cast

import psycopg
import psycopg.sql
import sqlalchemy
from psycopg import generators
from psycopg.errors import (
    DeadlockDetected,
    LockNotAvailable,
    UndefinedColumn,
    UndefinedTable,
    _WaitTimeout,
)
from psycopg.rows import dict_row
from sqlalchemy import Connection, Engine, TextClause, event
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.infra.errors import CommitUncertain, DatabaseUnavailable, DatabaseUnfit, SchemaMissing
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
"""A server that has vanished is noticed before a lease of 30 s expires."""
_ANSWER_S = 60.0
"""Longest wait of a worker for one answer. Nothing else notices a frozen server whose kernel still
acknowledges packets."""
_STATEMENT_LEAD_S = 1.0
"""The server gives up this much earlier than the client: a slow statement is canceled, and its
connection stays."""

_LISTEN_S = 1.0
"""Interval at which a listener looks whether it is to end."""
_SILENT_ROUNDS = 30
"""Number of these intervals without a message after which it asks the server for an answer."""

_MIGRATION_LIMIT_S = 600.0
"""How long a migration tries to get its locks. A transaction that holds one for longer is an
operator's, or a backup's."""
_MIGRATION_PAUSE_S = 2.0
"""Twice as long as a migration waits for a lock: what queued behind it is through by then."""

log = logging.getLogger(__name__)

# Alembic logs a line for each of its plugins at every start.
logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)

MIGRATIONS = Path(__file__).parents[2] / "migrations"

EVERY_TENANT = "*"
"""In place of a tenant: the rows of all. Row-level security binds the API's role alone; without a
tenant that role sees nobody's rows, so a forgotten one shows nothing."""

_AFTER_COMMIT = "longhand_after_commit"
"""Key in ``Connection.info`` of what is called after the commit."""

text = lru_cache(maxsize=512)(sqlalchemy.text)
"""SQLAlchemy's ``text``, which searches a statement for its parameters each time it is called."""


class _Connection(psycopg.Connection[Any]):
    """A connection that is closed when an answer takes longer than ``answer_s``."""

    answer_s = _ANSWER_S
    sees_all = False
    """Whether row-level security does not bind its role."""
    tenant: str | None = None
    """Whose rows the next transactions see, in the policies of the API's role."""
    single = False
    """Whether each statement is a transaction by itself. As ``autocommit``, which costs more to
    set."""

    def _start_query(self) -> Any:
        """Name the tenant in the message that begins the transaction: no further round trip."""
        if self.single:
            return
        is_idle = self.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
        if self.tenant is None or self.autocommit or not is_idle:
            yield from super()._start_query()
            return
        tenant = psycopg.sql.Literal(self.tenant).as_bytes(self)
        begin = self._get_tx_start_command()
        self.pgconn.send_query(b"%b; SET LOCAL longhand.tenant = %b" % (begin, tenant))
        for result in (yield from generators.execute(self.pgconn)):
            if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
                raise psycopg.errors.error_from_result(result)

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_s)
        except _WaitTimeout:
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {self.answer_s:g} s") from None


class _Cursor(psycopg.Cursor[Any]):
    """A cursor whose single statements see the connection's tenant, too."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        connection = cast(_Connection, self.connection)
        if connection.tenant is None or not connection.single:
            return super().execute(query, params, **options)
        # Both are sent at once, and are one transaction.
        with connection.pipeline():
            psycopg.Cursor(connection).execute(_NAME_TENANT, (connection.tenant,))
            super().execute(query, params, **options)
        return self


_NAME_TENANT = "SELECT set_config('longhand.tenant', %s, true)"


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
    options = f"-c idle_in_transaction_session_timeout={_IDLE_IN_TRANSACTION_MS}"
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
            "cursor_factory": _Cursor,
            "tcp_user_timeout": _TCP_USER_TIMEOUT_MS,
            "options": options,
            "application_name": "longhand",
            # Overrides PGCLIENTENCODING. In a SQL_ASCII session psycopg returns text as bytes, so
            # even the server's encoding could not be read.
            "client_encoding": "UTF8",
        },
    )

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: object, _record: object, arguments: Any, parameters: Any) -> _Connection:
        connection = _Connection.connect(*arguments, **parameters)
        if answer_s is not None:
            connection.answer_s = answer_s
        connection.sees_all = sees_all
        return connection

    event.listen(engine, "checkout", _replace_if_closed)
    return engine


def _replace_if_closed(connection: _Connection, _record: object, _proxy: object) -> None:
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
        with _traced(), _Direct(engine) as connection:
            connection.info[_AFTER_COMMIT] = actions
            driver = _driver(connection)
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


class _Direct(Connection):
    """A connection whose textual statements go to the driver directly.

    SQLAlchemy's own way from a text to its rows takes three times as much processor time. It is
    gone nevertheless where an engine has listeners to its statements.
    """

    def execute(self, statement: Any, parameters: Any = None, **options: Any) -> Any:
        """Execute a statement, as SQLAlchemy does.

        Raises:
            DBAPIError: as by SQLAlchemy.
        """
        is_plain = isinstance(statement, TextClause) and not isinstance(parameters, list)
        if not is_plain or self.engine._has_events:
            return super().execute(statement, parameters, **options)
        query = _driver_query(statement.text)
        cursor = _driver(self).cursor()
        try:
            cursor.execute(query, parameters)
            return _Fetched(cursor)
        except psycopg.Error as error:
            if is_broken := _driver(self).closed:
                self.invalidate()
            raise DBAPIError.instance(
                query,
                None,
                error,
                psycopg.Error,
                hide_parameters=True,
                connection_invalidated=is_broken,
                dialect=self.dialect,
            ) from error


class _Fetched(IteratorResult[Any]):
    """All rows of a statement."""

    def __init__(self, cursor: psycopg.Cursor[Any]) -> None:
        self.rowcount = cursor.rowcount
        result = cursor.pgresult
        assert result is not None
        names = tuple(result.fname(n) for n in range(result.nfields))
        # A row may have no columns.
        has_rows = result.status == psycopg.pq.ExecStatus.TUPLES_OK
        super().__init__(_columns(names), iter(cursor.fetchall() if has_rows else ()))


@lru_cache(maxsize=512)
def _driver_query(query: str) -> str:
    """Return a text with the parameters that the driver expects, ``%(name)s``."""
    dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]
    return str(sqlalchemy.text(query).compile(dialect=dialect))


@lru_cache(maxsize=512)
def _columns(names: tuple[bytes, ...]) -> SimpleResultMetaData:
    return SimpleResultMetaData([name.decode() for name in names])


def fetch(
    connection: Connection, query: LiteralString, parameters: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the rows of a query as dictionaries. Parameters are ``%(name)s``.

    They cost less than SQLAlchemy's rows.
    """
    with (
        _told_when_broken(connection),
        _driver(connection).cursor(row_factory=dict_row) as cursor,
    ):
        return cursor.execute(query, parameters).fetchall()


def _driver(connection: Connection) -> _Connection:
    return cast(_Connection, connection.connection.driver_connection)


@contextmanager
def _told_when_broken(connection: Connection) -> Iterator[None]:
    """Tell SQLAlchemy of a connection that breaks in the driver, so that it is not reset."""
    driver = _driver(connection)
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
