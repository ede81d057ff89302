"""Migrations lead to the schema that the code is written for, and back."""

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from scratchdatabases import alembic_config, scratch_settings
from sqlalchemy import inspect, text

from shared.infra.database import MIGRATIONS, check, make_engine, migrate
from shared.infra.errors import DatabaseUnfit, SchemaMissing
from shared.infra.settings import Settings


def test_migrations_are_numbered_in_their_order_and_named_for_their_numbers() -> None:
    scripts = list(ScriptDirectory(str(MIGRATIONS)).walk_revisions())
    assert [script.revision for script in scripts] == sorted(
        (path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("*.py")),
        reverse=True,
    )


def test_the_migrated_schema_is_the_one_in_the_code(servers: Settings) -> None:
    settings = scratch_settings(servers, "migrated")
    migrate(settings)
    command.check(alembic_config(settings))  # raises where a migration is missing


def test_a_schema_is_current_only_when_all_migrations_are_applied(servers: Settings) -> None:
    settings = scratch_settings(servers, "stepwise")
    engine = make_engine(settings)
    with pytest.raises(SchemaMissing):
        check(engine)
    migrate(settings)
    check(engine)
    migrate(settings)
    check(engine)
    engine.dispose()


def test_a_database_older_than_the_first_release_is_refused_in_one_sentence(
    servers: Settings,
) -> None:
    settings = scratch_settings(servers, "ancient")
    engine = make_engine(settings)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num text)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('0007')"))
    for attempt in (lambda: check(engine), lambda: migrate(settings)):
        with pytest.raises(
            DatabaseUnfit, match="the database was made by a version of Longhand that is too old"
        ):
            attempt()
    engine.dispose()


def test_a_migration_can_be_reverted(servers: Settings) -> None:
    settings = scratch_settings(servers, "reverted")
    migrate(settings)
    command.downgrade(alembic_config(settings), "base")
    engine = make_engine(settings)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()
    migrate(settings)
