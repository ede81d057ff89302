"""All rows as one moment has them: read as COPY writes them, and loaded into an empty database.

The tables, roles and policies are not part of it: the migrations make them. ``pg_dump`` is not
used. It must not be older than the server, it refuses tables whose row-level security binds their
owner, and what it restores needs roles of the same names.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import psycopg
from psycopg import sql
from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.store.tables import metadata
from shared.store.tables.jobs import event_ids

TABLES = tuple(table.name for table in metadata.sorted_tables)
"""All; what refers to a table comes after it."""

_OF_PROCESSES = ("removals", "served_queues", "tenants", "worker_kinds", "workers")
"""Tables that may have rows before anybody has used the platform."""


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """Begin a transaction that reads all tables as they are at its first statement."""
    with begin(engine) as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield connection


def columns_of(connection: Connection, table: str) -> list[str]:
    """Return the names of the columns that are not computed."""
    return list(
        connection.execute(
            text("""
                SELECT attname FROM pg_attribute
                WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 AND NOT attisdropped
                  AND attgenerated = '' ORDER BY attnum
            """),
            {"table": table},
        ).scalars()
    )


def read_table(connection: Connection, table: str, columns: Sequence[str]) -> Iterator[bytes]:
    """Yield a table's rows in COPY's text format, a line each, some lines at a time."""
    query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(table)
    )
    with _driver(connection).cursor() as cursor, cursor.copy(query) as copy:
        for block in copy:
            yield bytes(block)


def read_sequences(connection: Connection) -> Mapping[str, int]:
    """Return the last value of each of our sequences that has one; it is as late as any row's."""
    rows = connection.execute(
        text("""
            SELECT sequencename, last_value FROM pg_sequences
            WHERE schemaname = current_schema() AND last_value IS NOT NULL AND (
                sequencename = :event_ids OR EXISTS (
                    SELECT FROM pg_depend JOIN pg_class ON pg_class.oid = refobjid
                    WHERE objid = CAST(quote_ident(sequencename) AS regclass)
                      AND deptype IN ('a', 'i') AND relname = ANY (:tables)
                )
            )
        """),
        {"event_ids": event_ids.name, "tables": list(TABLES)},
    )
    return {row.sequencename: row.last_value for row in rows}


def is_unused(connection: Connection) -> bool:
    """Tell whether nobody has used the platform: no job, no key, no upload."""
    if connection.execute(text("SELECT count(*) FROM tenants")).scalar_one() > 1:
        return False
    used = " OR ".join(
        f"EXISTS (SELECT FROM {table})" for table in TABLES if table not in _OF_PROCESSES
    )
    return not connection.execute(text(f"SELECT {used}")).scalar_one()


@contextmanager
def empty_tables(engine: Engine) -> Iterator[Connection]:
    """Begin a transaction that may load rows; nobody else can use the tables before its end.

    The user must own the tables: COPY loads nothing where row-level security binds its user.
    """
    with begin(engine) as connection:
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        for table in TABLES:
            connection.execute(text(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"))
        for table in _OF_PROCESSES:
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - our names
        yield connection
        bound = connection.execute(
            text("""
                SELECT relname FROM pg_class
                WHERE relnamespace = CAST(current_schema() AS regnamespace)
                  AND relrowsecurity AND relname = ANY (:tables)
            """),
            {"tables": list(TABLES)},
        ).scalars()
        for table in bound.all():
            connection.execute(text(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"))


def load_table(
    connection: Connection, table: str, columns: Sequence[str], blocks: Iterable[bytes]
) -> int:
    """Add rows in COPY's text format to a table, and return how many."""
    query = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with _driver(connection).cursor() as cursor:
        with cursor.copy(query) as copy:
            for block in blocks:
                copy.write(block)
        return cursor.rowcount


def set_sequences(connection: Connection, values: Mapping[str, int]) -> None:
    """Have each sequence go on after a value."""
    for name, value in values.items():
        connection.execute(
            text("SELECT setval(CAST(:name AS regclass), :value)"), {"name": name, "value": value}
        )


def _driver(connection: Connection) -> "psycopg.Connection[object]":
    return cast("psycopg.Connection[object]", connection.connection.driver_connection)
