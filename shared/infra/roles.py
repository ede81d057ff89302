"""Postgres' roles, but for the tables' owner: the migrations make them without a login."""

from typing import cast

import psycopg
from psycopg import sql
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from shared.infra.database import begin, make_engine
from shared.infra.errors import DatabaseUnfit
from shared.infra.settings import API_ROLE, SCALER_ROLE, WORKER_ROLE, Settings

_LOCK = 0x1096A
"""Advisory lock: Postgres fails one of two transactions that change the same role."""


def admit_roles(settings: Settings) -> None:
    """Let each role log in whose password the settings have, and have it replace the role's last.

    The passwords themselves are not sent: only their SCRAM verifiers reach the server and its log.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
        DatabaseUnfit: the user of the settings may not change the roles.
    """
    passwords = {
        API_ROLE: settings.api_database_password.get_secret_value(),
        WORKER_ROLE: settings.worker_database_password.get_secret_value(),
        SCALER_ROLE: settings.scaler_database_password.get_secret_value(),
    }
    given = {role: password for role, password in passwords.items() if password}
    if not given:
        return
    engine = make_engine(settings, pool_size=1)
    try:
        with begin(engine) as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            driver = cast("psycopg.Connection[object]", connection.connection.driver_connection)
            for role, password in given.items():
                verifier = driver.pgconn.encrypt_password(
                    password.encode(), role.encode(), b"scram-sha-256"
                )
                statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(role), sql.Literal(verifier.decode())
                )
                connection.exec_driver_sql(statement.as_string(driver))
    except ProgrammingError as error:
        if not isinstance(error.orig, InsufficientPrivilege):
            raise
        raise DatabaseUnfit(
            f"the user of LONGHAND_DATABASE_URL may not let {' and '.join(given)} log in: it "
            "needs CREATEROLE, and must have made these roles or be their administrator"
        ) from error
    finally:
        engine.dispose()
