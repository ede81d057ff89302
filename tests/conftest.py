"""The real parts: Postgres, Valkey and rclone's S3, started once for all tests of a session."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from cli.embedded.stack import running_servers
from shared.database import make_engine
from shared.settings import Settings
from shared.storage import Storage

SAMPLES = Path(__file__).parent.parent / "samples"


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Migrated, empty servers, and the settings that reach them."""
    with running_servers(tmp_path_factory.mktemp("servers")) as endpoints:
        yield Settings(
            database_url=SecretStr(endpoints.database_url),
            broker_url=SecretStr(endpoints.broker_url),
            storage_url=SecretStr(endpoints.storage_url),
            default_model="oracle",
        )


@pytest.fixture
def database(servers: Settings) -> Iterator[Engine]:
    """Postgres with empty tables."""
    engine = make_engine(servers)
    with engine.begin() as connection:
        connection.execute(
            text("TRUNCATE jobs, transcripts, workers, webhook_endpoints, removals CASCADE")
        )
    yield engine
    engine.dispose()


@pytest.fixture
def settings(database: Engine, servers: Settings) -> Settings:
    """Settings of servers whose tables are empty."""
    return servers


@pytest.fixture
def storage(servers: Settings) -> Storage:
    """The object store; tests use keys of their own."""
    return Storage(servers.storage_url.get_secret_value())
