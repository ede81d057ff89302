"""The real parts: Postgres, Valkey and rclone's S3, started once for all tests of a session."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import interpreters
import pytest
from celery import Celery
from pydantic import SecretStr
from sqlalchemy import Engine, text

from cli.embedded.servers import running_servers
from shared.infra.database import make_engine
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.queue.broker import make_broker
from shared.store.tables import metadata

SAMPLES = Path(__file__).parent.parent / "samples"

# Tests judge what is right, on machines that may be busy; what is fast, benchmarks judge.
hypothesis.settings.register_profile(
    "untimed",
    hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]),
)
hypothesis.settings.load_profile("untimed")


def pytest_report_header() -> str:
    return f"CPythons for the first run: {', '.join(interpreters.found())}"


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Migrated, empty servers, and the settings that reach them."""
    with running_servers(tmp_path_factory.mktemp("servers")) as endpoints:
        yield Settings(
            database_url=SecretStr(endpoints.database_url),
            broker_url=SecretStr(endpoints.broker_url),
            storage_url=SecretStr(endpoints.storage_url),
            default_model="oracle",
            # Most tests have no workers: their jobs are taken as if some were about to start.
            on_demand_models="oracle,starter,whisper-tiny,whisper-base",
        )


@pytest.fixture(scope="session")
def pool(servers: Settings) -> Iterator[Engine]:
    """The connections of all tests: a busy machine may take long to make one."""
    engine = make_engine(servers)
    yield engine
    engine.dispose()


@pytest.fixture
def database(pool: Engine) -> Engine:
    """Postgres with empty tables."""
    with pool.begin() as connection:
        # Not DELETE, which is faster: plans that tests look at would depend on the dead rows.
        names = ", ".join(table.name for table in metadata.sorted_tables)
        connection.execute(text(f"TRUNCATE {names}"))
    return pool


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


@pytest.fixture
def storage(servers: Settings) -> Storage:
    """The object store; tests use keys of their own."""
    return Storage(servers.storage_url.get_secret_value())
