"""The errors of Postgres: for each SQLSTATE the class that retry decisions read, and a sentence."""

from collections.abc import Mapping

import psycopg
from sqlalchemy.exc import DBAPIError

from shared.infra.errors import DatabaseBusy, DatabaseFull, DatabaseReadOnly, DatabaseUnavailable

UNREACHABLE = "Postgres cannot be reached"

_MEANINGS: Mapping[str, tuple[type[DatabaseUnavailable], str]] = {
    "25006": (DatabaseReadOnly, "the database is read-only"),
    "25P03": (DatabaseUnavailable, "Postgres ended a transaction that was left idle"),
    "40001": (DatabaseBusy, "Postgres gave up a transaction that conflicts with another"),
    "40P01": (DatabaseBusy, "Postgres gave up a transaction to resolve a deadlock"),
    "53100": (DatabaseFull, "the disk of Postgres is full"),
    "53200": (DatabaseBusy, "Postgres is out of memory"),
    "53300": (DatabaseBusy, "Postgres has no connection left"),
    "55P03": (DatabaseBusy, "a lock in Postgres was not to be had in time"),
    "57014": (DatabaseBusy, "Postgres canceled a statement: it took too long"),
    "57P01": (DatabaseUnavailable, "Postgres ended the connection: it is shutting down"),
    "57P02": (DatabaseUnavailable, "Postgres ended the connection: it restarts after a crash"),
    "57P03": (DatabaseUnavailable, "Postgres is starting up or shutting down"),
}
"""By SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""


def outage_of(error: DBAPIError | psycopg.Error) -> DatabaseUnavailable | None:
    """Return the outage that an error means; None: a bug of ours.

    libpq has no SQLSTATE for a refused connection, so Postgres counts as unreachable then; the
    server's message is in the error's cause.
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    known = _MEANINGS.get(getattr(cause, "sqlstate", None) or "")
    if known is not None:
        kind, sentence = known
        return kind(sentence)
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return DatabaseUnavailable("the connection to Postgres broke")
    if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
        return DatabaseUnavailable(UNREACHABLE)
    return None


def cause_of(error: BaseException) -> str:
    """Return the cause of an error in one line for a log, without statement and parameters."""
    cause: BaseException | None = error.__cause__
    if isinstance(cause, DBAPIError):
        cause = cause.orig
    if cause is None:
        return ""
    said = cause.diag.message_primary if isinstance(cause, psycopg.Error) else None
    lines = (said or str(cause)).splitlines()
    state = getattr(cause, "sqlstate", None)
    return " ".join(filter(None, [state, lines[0] if lines else type(cause).__name__]))
