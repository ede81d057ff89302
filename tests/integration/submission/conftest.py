"""A client of an API that takes files of 20 MiB."""

from collections.abc import Iterator

import httpx
import pytest

from harness.servers.api_server import api
from shared.infra.settings import Settings

MIB = 1024**2


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers.model_copy(update={"max_upload_bytes": 20 * MIB})) as client:
        yield client
