"""How many more chunks a batcher can use."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import pytest

from harness.engines.fake import Item
from harness.engines.gated import DE, EN, GatedEngine, await_prepared, item, occupy
from shared.infra.errors import DeviceOutOfMemory
from worker.batching.batcher import Batcher
from worker.engines.protocol import Prepared


@pytest.fixture
def engine() -> GatedEngine:
    return GatedEngine()


@pytest.fixture
def batcher(engine: GatedEngine) -> Iterator[Batcher]:
    batcher = Batcher(engine, max_wait_ms=0)
    yield batcher
    engine.gate.set()
    batcher.close()


def test_room_is_two_batches_while_the_engine_is_idle_and_one_while_it_works(
    engine: GatedEngine, batcher: Batcher
) -> None:
    assert batcher.room() == 8
    running = occupy(engine, batcher)
    assert batcher.room() == 4
    futures = [batcher.submit(item(1), options) for options in (EN, DE, EN)]
    assert batcher.room() == 1
    futures += [batcher.submit(item(1), EN) for _ in range(2)]
    assert batcher.room() == 0

    engine.gate.set()
    for future in (running, *futures):
        future.result(60)
    assert batcher.room() == 8


def test_chunks_that_wait_for_a_first_batch_take_room(engine: GatedEngine) -> None:
    batcher = Batcher(engine, max_wait_ms=3_600_000)
    batcher.submit(item(1), EN)
    assert batcher.room() == 7
    await_prepared(batcher)
    engine.gate.set()
    batcher.close()


def test_a_chunk_that_is_to_be_alone_takes_the_room_of_a_batch(
    engine: GatedEngine, batcher: Batcher
) -> None:
    occupy(engine, batcher)
    batcher.submit(item(1), EN, alone=nullcontext())
    assert batcher.room() == 0


def test_the_rest_of_a_batch_that_did_not_fit_takes_room() -> None:
    class SmallEngine(GatedEngine):
        def infer(self, batch: Sequence[Prepared[Item]]) -> list[Item | Prepared[Item]]:
            if len(batch) > 2:
                raise DeviceOutOfMemory("full")
            return super().infer(batch)

    engine = SmallEngine()
    batcher = Batcher(engine, max_wait_ms=3_600_000)
    futures = [batcher.submit(item(n), EN) for n in range(4)]
    assert engine.entered.acquire(timeout=60)
    while_two_wait = batcher.room()
    engine.gate.set()
    for future in futures:
        future.result(60)
    # Batches are of two now, and the other two of the four are the next one.
    assert (while_two_wait, batcher.room()) == (0, 4)
    batcher.close()


def test_cancelled_chunks_take_no_room_once_their_turn_has_come(
    engine: GatedEngine, batcher: Batcher
) -> None:
    occupy(engine, batcher)
    assert batcher.submit(item(1), EN).cancel()
    after = batcher.submit(item(2), DE)
    await_prepared(batcher)
    engine.gate.set()
    after.result(60)
    assert batcher.room() == 8
