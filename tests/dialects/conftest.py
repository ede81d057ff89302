"""A running platform for the vendors' clients: keys on, real workers, words that tones spell."""

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from sqlalchemy import Engine

from harness.engines.real_models import real_entries
from harness.live.hearers import ToneHearer
from harness.programs.workers import Fleet, fleet, wait_until
from harness.servers.api_server import api
from shared.infra.settings import Settings
from shared.queue.broker import make_broker
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import ALL_SCOPES

REAL = "tiny.en-ct2"
"""A real Whisper; its worker is started by the test that needs it."""
ALIASES = f"real-*={REAL},my-whisper=oracle"


@dataclass(frozen=True, slots=True)
class Platform:
    """The API, its workers, and a key that opens everything."""

    url: str
    """Without a slash at its end."""
    key: str
    native: httpx.Client
    """With the key."""
    workers: Fleet
    database: Engine


@pytest.fixture(scope="module")
def platform(
    module_settings: Settings, pool: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """One for each file of tests; a test starts further workers if it needs them."""
    with make_broker(module_settings).connection_for_write() as connection:
        connection.default_channel.client.flushall()
    catalogue = tmp_path_factory.mktemp("catalogue") / "models.toml"
    catalogue.write_text(module_settings.catalogue.read_text() + real_entries(REAL))
    chosen = module_settings.model_copy(
        update={
            "auth": "on",
            "sweep_s": 0.5,
            "catalogue": catalogue,
            "model_aliases": ALIASES,
            "on_demand_models": f"oracle,{REAL}",
            "outbound_http": True,
            "outbound_allow": "127.0.0.0/8",
        }
    )
    _, key = create_key(pool, "default", "a vendor's client", ALL_SCOPES)
    with (
        fleet(chosen, tmp_path_factory.mktemp("logs")) as workers,
        api(chosen) as client,
    ):
        client.headers["X-API-Key"] = key
        workers.start("beat")
        workers.start("cpu", "--concurrency", "1")
        workers.start("model", "--model", "oracle")
        wait_until(lambda: client.get("/health").json()["model_loaded"])
        yield Platform(str(client.base_url).rstrip("/"), key, client, workers, pool)


@pytest.fixture(scope="module")
def hearer() -> ToneHearer:
    """Hears live sessions in the API's own process."""
    return ToneHearer()


@pytest.fixture(scope="module")
def served(
    module_settings: Settings, pool: Engine, hearer: ToneHearer
) -> Iterator[tuple[httpx.Client, str]]:
    """The API with keys on, and a key."""
    _, key = create_key(pool, "default", "a talker", ALL_SCOPES)
    with api(module_settings.model_copy(update={"auth": "on"}), hearer.make) as client:
        yield client, key
