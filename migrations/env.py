"""Alembic's entry: applies the migrations to LONGHAND_DATABASE_URL, in one transaction."""

import sqlalchemy
from alembic import context

from shared.infra.settings import Settings
from shared.store.tables import metadata


def run_migrations() -> None:
    """Connect, wait for the lock that serialises concurrent migrations, and migrate."""
    url = context.config.get_main_option("sqlalchemy.url")
    engine = sqlalchemy.create_engine(url or Settings().database_url.get_secret_value())
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            connection.execute(
                sqlalchemy.text("SELECT pg_advisory_xact_lock(hashtext('longhand:migrate'))")
            )
            context.run_migrations()
    engine.dispose()


if context.is_offline_mode():
    raise SystemExit(
        "offline migrations are not supported: point LONGHAND_DATABASE_URL at a server"
    )
run_migrations()
