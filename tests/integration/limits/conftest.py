"""Two API processes that ask for keys."""

from collections.abc import Iterator

import pytest

from harness.live.hearers import ToneHearer
from harness.servers.api_server import api
from shared.infra.settings import Settings


@pytest.fixture(scope="module")
def processes(module_settings: Settings) -> Iterator[tuple[str, str]]:
    """Return their addresses. They share nothing but the servers."""
    settings = module_settings.model_copy(update={"auth": "on"})
    hearer = ToneHearer()
    with api(settings, hearer.make) as first, api(settings, hearer.make) as second:
        yield str(first.base_url), str(second.base_url)
