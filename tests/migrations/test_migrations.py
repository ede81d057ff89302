"""Migrations lead to the schema that the code is written for, and back."""

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from scratchdatabases import alembic_config, scratch_settings
from sqlalchemy import inspect, text

from shared.infra.database import MIGRATIONS, check, make_engine, migrate
from shared.infra.errors import SchemaMissing
from shared.infra.settings import Settings
from shared.store.objects.keys import job_prefix


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
    command.upgrade(alembic_config(settings), "0004")
    with pytest.raises(SchemaMissing):
        check(engine)
    migrate(settings)
    check(engine)
    migrate(settings)
    check(engine)
    engine.dispose()


def test_a_migration_can_be_reverted(servers: Settings) -> None:
    settings = scratch_settings(servers, "reverted")
    migrate(settings)
    command.downgrade(alembic_config(settings), "base")
    engine = make_engine(settings)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()
    migrate(settings)


def test_steps_of_older_schemas_get_their_tenants_and_ended_jobs_leave_the_queues(
    servers: Settings,
) -> None:
    settings = scratch_settings(servers, "upgraded")
    command.upgrade(alembic_config(settings), "0002")
    engine = make_engine(settings)
    with engine.begin() as connection:
        connection.execute(
            text("""
                WITH job AS (
                    INSERT INTO jobs (id, tenant, state, model, options, source_key, source_name,
                                      source_bytes, sha256, priority, finished_at)
                    SELECT gen_random_uuid(), tenant, state, 'oracle', '{}', tenant, 'a.wav', 1,
                           '', priority, CASE WHEN state = 'canceled' THEN now() END
                    FROM (VALUES ('active', 'queued', 3), ('ended', 'canceled', 0))
                        AS made (tenant, state, priority)
                    RETURNING id
                )
                INSERT INTO steps (job_id, kind, idx, queue, max_attempts)
                SELECT id, 'prepare', 0, 'prepare', 3 FROM job
            """)
        )
    engine.dispose()
    migrate(settings)
    with engine.begin() as connection:
        found = connection.execute(
            text("SELECT tenant, rank, dispatched_at = 'infinity' FROM steps ORDER BY tenant")
        ).all()
    engine.dispose()
    assert [tuple(row) for row in found] == [("active", -3, None), ("ended", 0, True)]


def test_what_was_canceled_before_its_audio_was_kept_gives_up_all_of_it(servers: Settings) -> None:
    settings = scratch_settings(servers, "canceled")
    command.upgrade(alembic_config(settings), "0004")
    engine = make_engine(settings)
    with engine.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO jobs (id, tenant, state, model, options, source_key, source_name,
                                  source_bytes, sha256, finished_at)
                SELECT gen_random_uuid(), state, state, 'oracle', '{}', '', 'a.wav', 1, '', now()
                FROM (VALUES ('failed'), ('canceled')) AS made (state)
            """)
        )
    engine.dispose()
    migrate(settings)
    with engine.begin() as connection:
        gone = connection.execute(
            text("SELECT state, id FROM jobs WHERE audio_deleted_at IS NOT NULL")
        ).all()
        removals = connection.execute(text("SELECT prefix FROM removals")).scalars().all()
        events = connection.execute(text("SELECT job_id, event FROM job_events")).all()
    engine.dispose()
    ((state, job_id),) = gone
    assert state == "canceled"
    assert removals == [job_prefix(job_id)]
    assert [tuple(event) for event in events] == [(job_id, "job.audio_removed")]
