"""Clients of both kinds, and a platform for them."""

from collections.abc import Iterator

import pytest
from longhand_sdk import live

from harness.clients.sdk import Clients, Connect, Platform
from harness.programs.workers import fleet, wait_until
from harness.servers.api_server import api
from harness.servers.patience import LONG_S
from shared.infra.settings import Settings
from shared.queue.broker import make_broker

live.OPEN_LIMIT_S = LONG_S  # the machine may stand still


@pytest.fixture(params=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    clients = Clients(request.param)
    yield clients.connect
    clients.close()


@pytest.fixture(scope="module")
def platform(
    module_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """One for each file of tests."""
    with make_broker(module_settings).connection_for_write() as connection:
        connection.default_channel.client.flushall()
    chosen = module_settings.model_copy(
        update={"sweep_s": 0.5, "outbound_http": True, "outbound_allow": "127.0.0.0/8"}
    )
    with fleet(chosen, tmp_path_factory.mktemp("logs")) as workers, api(chosen) as client:
        workers.start("beat")
        workers.start("cpu", "--concurrency", "1")
        workers.start("model", "--model", "oracle")
        wait_until(lambda: client.get("/health").json()["model_loaded"])
        yield Platform(str(client.base_url).rstrip("/"), client)
