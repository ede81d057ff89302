"""The API with workers that read tone words."""

from collections.abc import Iterator

import httpx
import pytest
from apiserver import api
from livehearers import ToneHearer

from shared.infra.settings import Settings


@pytest.fixture
def hearer() -> ToneHearer:
    return ToneHearer()


@pytest.fixture
def client(servers: Settings, hearer: ToneHearer) -> Iterator[httpx.Client]:
    with api(servers, hearer.make) as client:
        yield client
