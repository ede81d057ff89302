"""Servers that the environment names, for tests in the place of those from wheels.

TEST_DATABASE_URL   a superuser of a Postgres, on which the tests make a database of their own
TEST_BROKER_URL     a Redis that nobody else uses
TEST_STORAGE_URL    a bucket, made unless it exists, that nobody else uses

Each is a URL as the settings have it, of a loopback port (127.0.0.1), since some tests put a relay
before it. One that is not named is that of the wheel.
"""

import os

import pytest
from pydantic import SecretStr

from harness.servers.databases import scratch_settings
from shared.infra import schema
from shared.infra.settings import Settings
from shared.infra.storage import Storage

_DATABASE, _BROKER, _STORAGE = "TEST_DATABASE_URL", "TEST_BROKER_URL", "TEST_STORAGE_URL"
_FIELDS = {_DATABASE: "database_url", _BROKER: "broker_url", _STORAGE: "storage_url"}


def with_given_servers(settings: Settings) -> Settings:
    """Return settings that reach the servers which the environment names, migrated and empty."""
    given = {
        field: SecretStr(url) for name, field in _FIELDS.items() if (url := os.environ.get(name))
    }
    if not given:
        return settings
    if "PYTEST_XDIST_WORKER" in os.environ:
        pytest.fail(f"several processes cannot share {', '.join(_FIELDS)}: run one (no -n)")
    settings = settings.model_copy(update=given)
    if _DATABASE in os.environ:
        settings = scratch_settings(settings, "longhand_tests")
        schema.migrate(settings)
    if _STORAGE in os.environ:
        Storage(settings.storage_url.get_secret_value()).create_bucket()
    return settings
