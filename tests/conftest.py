"""Real servers for the tests: Postgres, Valkey and rclone's S3, started once in each process.

``given`` puts others in their place.
"""

import gc
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest
from celery import Celery
from httpx._transports import default as transports
from pydantic import SecretStr
from sqlalchemy import Engine, make_url, text

from cli.embedded import postgres
from cli.embedded.directory import DataDirectory
from cli.embedded.servers import running_servers
from harness.programs import interpreters
from harness.servers.given import with_given_servers
from harness.servers.patience import as_in_production, be_patient
from shared.infra.database import make_engine
from shared.infra.roles import admit_roles
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.queue.broker import make_broker
from shared.store.tables import metadata

SAMPLES = Path(__file__).parent.parent / "samples"

USED_TABLES = text(
    "SELECT name FROM unnest(CAST(:names AS text[])) name "
    "WHERE pg_relation_size(name::regclass) > 0"
)
"""Tables that have held a row since they were last truncated."""

be_patient()

# Each client of httpx would read all authorities' certificates, which takes a hundred times as
# long as the rest of making it, and tests make thousands. They can share one context.
transports.create_ssl_context = cache(transports.create_ssl_context)

# No deadline: tests check results, on machines that may be busy. `make soak` loads "long".
for profile, examples in (("short", 30), ("long", 1000)):
    hypothesis.settings.register_profile(
        profile,
        max_examples=examples,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile("short")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Have nothing that the collection of tests imports looked through for garbage.

    It stays to the end. To go through it takes a fifth of the time of the collection, and time of
    the tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture
def quick_answers() -> Iterator[None]:
    """Have APIs of this process wait for servers as long as in production."""
    with as_in_production():
        yield


def pytest_report_header() -> str:
    return f"CPythons for the first run: {', '.join(interpreters.found())}"


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Migrated, empty servers, and the settings that reach them."""
    path = tmp_path_factory.mktemp("servers")
    make_cluster_without_sync(DataDirectory(path))
    with running_servers(path) as endpoints:
        settings = with_given_servers(
            Settings(
                database_url=SecretStr(endpoints.database_url),
                broker_url=SecretStr(endpoints.broker_url),
                storage_url=SecretStr(endpoints.storage_url),
                default_model="oracle",
                # Most tests have no workers: their jobs are taken as if some were about to start.
                on_demand_models="oracle,starter,whisper-tiny,whisper-base",
            )
        )
        let_in_api_role(settings)
        yield settings


def let_in_api_role(settings: Settings) -> None:
    """Give the API's role the owner's password: see ``api_server.confined``."""
    password = make_url(settings.database_url.get_secret_value()).password or ""
    admit_roles(settings.model_copy(update={"api_database_password": SecretStr(password)}))


def make_cluster_without_sync(directory: DataDirectory) -> None:
    """Make a Postgres cluster that waits for no disk: nobody needs it after a power cut."""
    directory.create()
    postgres.ensure_cluster(directory.postgres, directory.credentials().postgres_password)
    with (directory.postgres / "postgresql.conf").open("a") as configuration:
        configuration.write("fsync = off\nfull_page_writes = off\nsynchronous_commit = off\n")


@pytest.fixture(scope="session")
def pool(servers: Settings) -> Iterator[Engine]:
    """All tests share connections, since making one takes long on a busy machine."""
    engine = make_engine(servers)
    yield engine
    engine.dispose()


def empty_tables(engine: Engine) -> None:
    """Truncate what has held a row: DELETE leaves dead rows, which change the plans of queries."""
    with engine.begin() as connection:
        names = [name for name in metadata.tables if name != "tenants"]
        used = connection.scalars(USED_TABLES, {"names": names}).all()
        if used:
            connection.execute(text(f"TRUNCATE {', '.join(used)} CASCADE"))
        # The migration has inserted the tenant 'default'.
        connection.execute(text("DELETE FROM tenants WHERE id <> 'default'"))
        connection.execute(text("UPDATE tenants SET limits = '{}' WHERE limits <> '{}'"))


@pytest.fixture
def database(pool: Engine) -> Engine:
    """Postgres with empty tables."""
    empty_tables(pool)
    return pool


@pytest.fixture(scope="module")
def module_settings(pool: Engine, servers: Settings) -> Settings:
    """Settings of servers whose tables are empty before the first test of a file."""
    empty_tables(pool)
    return servers


@pytest.fixture
def settings(database: Engine, servers: Settings) -> Settings:
    """Settings of servers whose tables are empty."""
    return servers


@pytest.fixture
def broker(settings: Settings) -> Celery:
    """A sender of messages, to queues that are empty."""
    app = make_broker(settings)
    with app.connection_for_write() as connection:
        connection.default_channel.client.flushdb()
    return app


@pytest.fixture(scope="session")
def storage(servers: Settings) -> Storage:
    """The object store; tests use keys of their own."""
    return Storage(servers.storage_url.get_secret_value())
