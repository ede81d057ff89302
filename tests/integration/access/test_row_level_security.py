"""What the API's role sees of the database, whatever the code asks for."""

from collections.abc import Iterator

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import ProgrammingError
from uuid_utils.compat import uuid7

from harness.jobs.job_store import claim, finish, prepare, transcribe
from harness.jobs.webhook_store import add_hook, create
from harness.programs.forked import run
from harness.programs.workers import environment
from harness.servers.api_server import confined
from shared.infra.database import EVERY_TENANT, begin, make_engine, read, single
from shared.infra.errors import DatabaseUnfit
from shared.infra.roles import admit_roles
from shared.infra.settings import API_ROLE, SCALER_ROLE, WORKER_ROLE, Settings
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import ALL_SCOPES
from shared.store.accounts.tenants import create_tenant
from shared.store.corrections import correct_segment
from shared.store.idempotency import take_key
from shared.store.jobs.delete import delete_job
from shared.store.jobs.read import list_jobs, read_jobs
from shared.store.limits import NO_LIMITS
from shared.store.share_links import create_share_link
from shared.store.tables import metadata
from shared.store.uploads import NewUpload, create_upload
from shared.store.usage import add_up_usage, count_live

SHARED = {"removals", "served_queues", "worker_kinds", "workers"}
OWNED = sorted(metadata.tables.keys() - SHARED)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """The API's, in its own role."""
    engine = make_engine(confined(settings), pool_size=1)
    yield engine
    engine.dispose()


@pytest.fixture
def filled(database: Engine) -> Engine:
    """Two tenants, each with a job that has succeeded, transcript, webhook, key and upload."""
    create_tenant(database, "acme", "Acme Ltd")
    for tenant in ("acme", "default"):
        add_hook(database, f"https://{tenant}.example/x", tenant=tenant)
        job_id = create(database, tenant=tenant, metadata={"order": 17})
        prepare(database, job_id, 1)
        transcribe(database, claim(database, job_id, "transcribe"))
        finish(database, claim(database, job_id, "finish"))
        correct_segment(database, tenant, job_id, 0, "what was said", seen=0)
        create_share_link(database, tenant, job_id)
        create_key(database, tenant, "a test's", ALL_SCOPES)
        with database.begin() as connection:
            connection.execute(
                text("INSERT INTO batches (id, tenant) VALUES (gen_random_uuid(), :tenant)"),
                {"tenant": tenant},
            )
            connection.execute(
                text("""
                    INSERT INTO voices (id, tenant, name, model, revision, voiceprint)
                    VALUES (gen_random_uuid(), :tenant, 'Anna', 'm', '1', 'AAA=')
                """),
                {"tenant": tenant},
            )
        take_key(database, tenant, "the same")
        new = NewUpload(uuid7(), tenant, "a.wav", 3, sha256=None, resumable=True)
        create_upload(database, new, NO_LIMITS, keep_s=60)
    add_up_usage(database)
    for tenant in ("acme", "default"):
        count_live(database, tenant, 1.0)
    return database


def count(engine: Engine, table: str, tenant: str | None) -> int:
    with read(engine, tenant) as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_every_table_with_anything_of_tenants_has_forced_policies(database: Engine) -> None:
    with database.begin() as connection:
        rows = connection.execute(
            text("""
                SELECT relname, relrowsecurity AND relforcerowsecurity AS bound FROM pg_class
                WHERE relkind = 'r' AND relname = ANY (:names)
            """),
            {"names": [*metadata.tables]},
        )
        assert {row.relname for row in rows if row.bound} == set(OWNED)
        roles = connection.execute(
            text(
                "SELECT rolname FROM pg_roles WHERE rolname ~ '^longhand_' AND NOT rolsuper "
                "AND NOT rolbypassrls AND NOT rolcreaterole AND NOT rolcreatedb"
            )
        )
        assert set(roles.scalars()) == {API_ROLE, WORKER_ROLE, SCALER_ROLE}


def test_without_a_filter_a_tenant_sees_its_own_rows_and_nobody_sees_none(
    filled: Engine, engine: Engine
) -> None:
    for table in OWNED:
        if table in ("calls", "webhook_attempts"):  # these jobs have none
            continue
        counts = [count(engine, table, each) for each in (None, "nobody", "acme", "default")]
        everything = count(engine, table, EVERY_TENANT)
        assert counts[:2] == [0, 0], table
        assert 0 < counts[2] < everything, table
        assert counts[2] + counts[3] == everything, table


def test_the_codes_own_filter_may_be_missing(filled: Engine, engine: Engine) -> None:
    theirs = [job.id for job in list_jobs(filled, "acme", limit=10)]
    assert list_jobs(engine, "acme", limit=10)
    with read(engine, "default") as connection:
        assert read_jobs(connection, theirs) == {}
    with begin(engine, "default") as connection:
        assert read_jobs(connection, theirs) == {}
        for statement in ("UPDATE jobs SET priority = 1", "DELETE FROM jobs"):
            found = connection.execute(text(f"{statement} WHERE id = ANY (:ids)"), {"ids": theirs})
            assert found.rowcount == 0
    with (
        pytest.raises(ProgrammingError, match="row-level security"),
        single(engine, "default") as connection,
    ):
        connection.execute(
            text("""
                INSERT INTO webhook_endpoints (id, tenant, url, events, secret, listed)
                VALUES (gen_random_uuid(), 'acme', 'https://a.example', '{}', 'x', true)
            """)
        )


def test_a_tenant_does_not_stay_with_the_connection(filled: Engine, engine: Engine) -> None:
    for way in (begin, read):
        with way(engine, "acme") as connection:
            assert connection.execute(text("SELECT count(*) FROM jobs")).scalar_one() == 1
        with way(engine) as connection:
            assert connection.execute(text("SELECT count(*) FROM jobs")).scalar_one() == 0
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM jobs")).scalar_one() == 0


def test_a_transcript_goes_with_its_job_under_the_apis_role(filled: Engine, engine: Engine) -> None:
    (job,) = list_jobs(engine, "acme", limit=10)
    delete_job(engine, "acme", job.id, max_attempts=3)
    assert count(filled, "transcripts", None) == 1
    assert count(filled, "transcript_segments", None) >= 1


def test_workers_see_all_tenants_and_no_keys(filled: Engine) -> None:
    with filled.begin() as connection:
        connection.execute(text("SET LOCAL ROLE longhand_worker"))
        assert connection.execute(text("SELECT count(*) FROM jobs")).scalar_one() == 2
        with pytest.raises(ProgrammingError, match="permission denied"):
            connection.execute(text("SELECT FROM api_keys"))


def logs_in(settings: Settings, role: str, password: str) -> bool:
    url = make_url(settings.database_url.get_secret_value())
    try:
        with psycopg.connect(
            host=url.host, port=url.port, dbname=url.database, user=role, password=password
        ) as connection:
            return connection.execute("SELECT current_user").fetchone() == (role,)
    except psycopg.OperationalError:
        return False


def test_the_migration_lets_the_roles_log_in_whose_passwords_it_is_given(
    settings: Settings, database: Engine
) -> None:
    old, new = "a password", "it's \\ another:one"
    for password in (old, new):
        given = settings.model_copy(update={"worker_database_password": SecretStr(password)})
        done = run("worker", "migrate", env=environment(given))
        assert done.returncode == 0, done.stderr
    assert logs_in(settings, WORKER_ROLE, new)
    assert not logs_in(settings, WORKER_ROLE, old)
    assert logs_in(confined(settings), API_ROLE, owner_password(settings))  # left as it was
    with database.begin() as connection:
        stored = connection.execute(
            text("SELECT rolpassword FROM pg_authid WHERE rolname = :role"), {"role": WORKER_ROLE}
        ).scalar_one()
    assert stored.startswith("SCRAM-SHA-256$")


def test_a_user_who_may_not_change_the_roles_is_told_so(settings: Settings) -> None:
    with pytest.raises(DatabaseUnfit, match="may not let longhand_worker log in"):
        admit_roles(
            confined(settings).model_copy(
                update={"worker_database_password": SecretStr("a password")}
            )
        )


def owner_password(settings: Settings) -> str:
    return make_url(settings.database_url.get_secret_value()).password or ""
