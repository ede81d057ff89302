"""A client of the API, a worker's runtime, a receiver, and an endpoint at it."""

from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine

from harness.jobs.webhook_store import add_hook, loopback, on_loopback
from harness.peers.receivers import Receiver, receiving
from harness.servers.api_server import api
from shared.infra.settings import Settings
from worker.process.runtime import Runtime, make_runtime


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    public = on_loopback(servers).model_copy(update={"public_url": "https://l.example.com/api"})
    with api(public) as client:
        yield client


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    made = make_runtime(on_loopback(settings), "test")
    yield replace(made, outbound=loopback())
    made.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


@pytest.fixture
def hook(database: Engine, receiver: Receiver) -> tuple[UUID, str]:
    """An endpoint for all events at the receiver: its id and its secret."""
    return add_hook(database, receiver.url)
