"""Connections of psycopg and SQLAlchemy as Longhand uses them: bound in time, cheap, with a tenant.

A transaction names the tenant whose rows it sees in the message that begins it. A textual statement
goes to psycopg directly, past SQLAlchemy's compiler and result.
"""

from functools import lru_cache
from typing import Any, Self, cast

import psycopg
import psycopg.sql
import sqlalchemy
from psycopg import generators
from psycopg.errors import _WaitTimeout
from sqlalchemy import TextClause
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.exc import DBAPIError

_ANSWER_S = 60.0
"""Longest wait of a worker for one answer. Nothing else notices a frozen server whose kernel still
acknowledges packets."""

_NAME_TENANT = "SELECT set_config('longhand.tenant', %s, true)"


class Driver(psycopg.Connection[Any]):
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


class DriverCursor(psycopg.Cursor[Any]):
    """A cursor whose single statements see the connection's tenant, too."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        connection = cast(Driver, self.connection)
        if connection.tenant is None or not connection.single:
            return super().execute(query, params, **options)
        # Both are sent at once, and are one transaction.
        with connection.pipeline():
            psycopg.Cursor(connection).execute(_NAME_TENANT, (connection.tenant,))
            super().execute(query, params, **options)
        return self


class DirectConnection(sqlalchemy.Connection):
    """A connection whose textual statements go to the driver directly.

    SQLAlchemy's own way from a text to its rows takes three times as much processor time. Its
    events of statements are not sent.
    """

    def execute(self, statement: Any, parameters: Any = None, **options: Any) -> Any:
        """Execute a statement, as SQLAlchemy does.

        Raises:
            DBAPIError: as by SQLAlchemy.
        """
        if not isinstance(statement, TextClause) or isinstance(parameters, list):
            return super().execute(statement, parameters, **options)
        query = _driver_query(statement.text)
        cursor = driver_of(self).cursor()
        try:
            cursor.execute(query, parameters)
            return _Fetched(cursor)
        except psycopg.Error as error:
            if is_broken := driver_of(self).closed:
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


def driver_of(connection: sqlalchemy.Connection) -> Driver:
    """Return the connection of psycopg that one of SQLAlchemy holds."""
    return cast(Driver, connection.connection.driver_connection)
