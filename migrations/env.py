"""Alembic's entry: applies the migrations to LONGHAND_DATABASE_URL while the platform works.

Each migration is a transaction of its own, so its locks are gone before the next one begins. It
waits ``_LOCK_TIMEOUT_MS`` for each of them: whoever wants a table while a statement waits for it
queues behind that. What gives up is tried again by ``shared.infra.schema.migrate``.
"""

import time
from typing import Any

import sqlalchemy
from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.pool import NullPool

from shared.infra.settings import Settings
from shared.store.tables import metadata

_LOCK_TIMEOUT_MS = 1000
"""A job waits for Postgres some twelve times, and a request gives up after several seconds."""
_TURN_LOOK_S = 0.5
"""How often a migration looks whether another one has ended."""


def run_migrations() -> None:
    """Connect, wait until no other migration runs, and migrate."""
    url = context.config.get_main_option("sqlalchemy.url")
    engine = sqlalchemy.create_engine(
        url or Settings().database_url.get_secret_value(), poolclass=NullPool
    )
    with engine.connect() as connection:
        _take_turn(connection)
        connection.execute(text(f"SET lock_timeout = {_LOCK_TIMEOUT_MS}"))
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=metadata,
            transaction_per_migration=True,
            on_version_apply=_note_compatibility,
        )
        with context.begin_transaction():
            context.run_migrations()


def _take_turn(connection: Connection) -> None:
    """Take the lock that serialises migrations; the session's end gives it back.

    Who waits in the lock itself has a snapshot meanwhile, for which CREATE INDEX CONCURRENTLY of
    the migration before would wait in turn.
    """
    turn = text("SELECT pg_try_advisory_lock(hashtext('longhand:migrate'))")
    while not connection.execute(turn).scalar_one():
        connection.rollback()
        time.sleep(_TURN_LOOK_S)
    connection.commit()


def _note_compatibility(heads: set[str], **_: Any) -> None:
    """Write beside the revision which application is the oldest that works on it."""
    connection = context.get_bind()
    connection.execute(
        text("ALTER TABLE alembic_version ADD COLUMN IF NOT EXISTS compatible_from text")
    )
    for revision in heads:
        script = context.script.get_revision(revision)
        connection.execute(
            text("UPDATE alembic_version SET compatible_from = :oldest WHERE version_num = :own"),
            {"oldest": script.module.compatible_from, "own": revision},
        )


if context.is_offline_mode():
    raise SystemExit(
        "offline migrations are not supported: point LONGHAND_DATABASE_URL at a server"
    )
run_migrations()
