"""A client of the API."""

from collections.abc import Iterator

import httpx
import pytest

from harness.servers.api_server import api
from shared.infra.settings import Settings


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client
