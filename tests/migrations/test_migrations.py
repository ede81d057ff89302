"""Migrations lead to the schema that the code is written for, and back."""

import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from harness.database.newer_schema import EXPANDED, NEWEST, newer_migrations
from harness.programs.workers import wait_until
from harness.servers.databases import alembic_config, scratch_settings
from shared.infra import schema
from shared.infra.database import make_engine
from shared.infra.errors import DatabaseUnfit, SchemaMissing
from shared.infra.schema import MIGRATIONS, check, migrate, own_revision
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


def test_every_migration_says_on_which_application_its_schema_still_works() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS)).walk_revisions()
    assert all(script.module.compatible_from <= script.revision for script in scripts)


def test_an_application_works_on_newer_schemas_that_say_so_and_on_no_others(
    servers: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = own_revision()
    for name, oldest in (("kind", own), ("breaking", EXPANDED)):
        settings = scratch_settings(servers, f"newer_{name}")
        with monkeypatch.context() as newer:
            newer.setattr(
                schema, "MIGRATIONS", newer_migrations(tmp_path / name, compatible_from=oldest)
            )
            migrate(settings)
        engine = make_engine(settings)
        if oldest == own:
            assert check(engine) == NEWEST
            migrate(settings)  # an older version's hook runs once more
            assert check(engine) == NEWEST
        else:
            with pytest.raises(DatabaseUnfit, match=f"schema {NEWEST} of a newer version"):
                check(engine)
            with pytest.raises(DatabaseUnfit, match=f"schema {NEWEST} of a newer version"):
                migrate(settings)
        engine.dispose()


def test_an_application_waits_on_an_older_schema(
    servers: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = scratch_settings(servers, "older")
    own = own_revision()
    migrate(settings)
    engine = make_engine(settings)
    monkeypatch.setattr(schema, "MIGRATIONS", newer_migrations(tmp_path))
    with pytest.raises(SchemaMissing, match=f"has schema {own}, and this version needs {NEWEST}"):
        check(engine)
    migrate(settings)
    assert check(engine) == NEWEST
    config = alembic_config(settings)
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    command.downgrade(config, own)
    with engine.begin() as connection:
        row = connection.execute(text("SELECT version_num, compatible_from FROM alembic_version"))
        assert tuple(row.one()) == (own, own)
    engine.dispose()


def test_a_migration_waits_a_second_for_a_lock_and_tries_again(
    servers: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = scratch_settings(servers, "locked")
    migrate(settings)
    engine = make_engine(settings)
    monkeypatch.setattr(schema, "MIGRATIONS", newer_migrations(tmp_path))
    monkeypatch.setattr(schema, "_MIGRATION_PAUSE_S", 0.1)
    gave_up = threading.Event()
    monkeypatch.setattr(schema.log, "warning", lambda *_: gave_up.set())
    migration = threading.Thread(target=migrate, args=(settings,))
    with engine.begin() as reader:
        reader.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        reader.execute(text("SELECT FROM jobs"))
        migration.start()
        assert gave_up.wait(60)
        with engine.begin() as other:  # nobody queues behind the migration until the reader ends
            other.execute(text("SET LOCAL statement_timeout = '60s'"))
            other.execute(text("SELECT FROM jobs"))
    migration.join(60)
    assert check(engine) == NEWEST
    engine.dispose()


def test_migrations_at_once_take_turns_also_where_one_makes_an_index_concurrently(
    servers: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = scratch_settings(servers, "at_once")
    migrate(settings)
    monkeypatch.setattr(schema, "MIGRATIONS", newer_migrations(tmp_path))
    engine = make_engine(settings)
    turn = text("SELECT pg_advisory_lock(hashtext('longhand:migrate'))")
    config = alembic_config(settings)
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    waiting = threading.Thread(target=command.upgrade, args=(config, NEWEST))
    with engine.connect() as first:
        first.execute(turn)
        first.commit()
        waiting.start()
        waiting.join(2)
        assert waiting.is_alive()
        # What the first one's index would wait for: a snapshot of the one that waits. It has one
        # for a moment whenever it looks whether it is its turn, and so has an autovacuum.
        held = text("""
            SELECT count(*) FROM pg_stat_activity
            WHERE backend_xmin IS NOT NULL AND datname = current_database()
              AND pid <> pg_backend_pid()
        """)

        def is_free() -> bool:
            first.rollback()  # within a transaction the view does not change
            return bool(first.execute(held).scalar_one() == 0)

        wait_until(is_free)
        first.invalidate()
    waiting.join(60)
    assert check(engine) == NEWEST
    engine.dispose()
