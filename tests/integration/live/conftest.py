"""The API with workers that read tone words."""

from collections.abc import Iterator

import httpx
import pytest

from harness.live.hearers import ToneHearer
from harness.servers.api_server import api
from shared.infra.settings import Settings


@pytest.fixture
def hearer() -> ToneHearer:
    return ToneHearer()


@pytest.fixture
def client(servers: Settings, hearer: ToneHearer) -> Iterator[httpx.Client]:
    with api(servers, hearer.make) as client:
        yield client
