"""What a model worker does about an engine that cannot go on."""

import signal
from collections.abc import Iterator

import pytest

from shared.infra.errors import EngineFailed
from worker.steps.infer import restart


@pytest.fixture
def terminations() -> Iterator[list[int]]:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, _: received.append(signum))
    yield received
    signal.signal(signal.SIGTERM, before)


def test_an_engine_that_breaks_down_stops_its_worker_in_order(terminations: list[int]) -> None:
    restart(EngineFailed("the device is lost"))
    assert terminations == [signal.SIGTERM]
