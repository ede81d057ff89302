"""What the batcher's threads do with the items of a batch."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import psutil
import pytest

from harness.engines.gated import DE, EN, GatedEngine, await_prepared, item, occupy
from shared.infra.errors import ModelError
from worker.batching.batcher import Batcher


@pytest.fixture
def engine() -> GatedEngine:
    return GatedEngine()


@pytest.fixture
def batcher(engine: GatedEngine) -> Iterator[Batcher]:
    batcher = Batcher(engine, max_wait_ms=0)
    yield batcher
    engine.gate.set()
    batcher.close()


def test_queued_items_share_a_batch_by_options_oldest_group_first(
    engine: GatedEngine, batcher: Batcher
) -> None:
    occupy(engine, batcher)
    queued = [(1, DE), (2, EN), (3, DE), (4, DE), (5, EN), (6, DE), (7, DE)]
    futures = [batcher.submit(item(n), options) for n, options in queued]
    await_prepared(batcher)
    engine.gate.set()

    results = [future.result(60) for future in futures]

    assert engine.calls[1:] == [("de", [1, 3, 4, 6]), ("en", [2, 5]), ("de", [7])]
    assert [r.hypothesis.language for r in results] == [str(n) for n, _ in queued]
    assert [r.batch_size for r in results] == [4, 2, 4, 4, 2, 4, 1]
    assert all(r.inference_s >= 0 for r in results)
    assert len(engine.threads) == 1


def test_full_batch_does_not_wait(engine: GatedEngine) -> None:
    engine.gate.set()
    batcher = Batcher(engine, max_batch=2, max_wait_ms=3_600_000)

    futures = [batcher.submit(item(n), EN) for n in (1, 2)]

    assert [future.result(60).batch_size for future in futures] == [2, 2]
    batcher.close()


def test_lone_item_waits_no_longer_than_told(engine: GatedEngine) -> None:
    engine.gate.set()
    batcher = Batcher(engine, max_batch=2, max_wait_ms=1)

    assert batcher.submit(item(1), EN).result(60).batch_size == 1
    batcher.close()


def test_an_item_that_is_to_be_alone_is_a_batch_by_itself_within_its_context(
    engine: GatedEngine, batcher: Batcher
) -> None:
    seen: list[tuple[str, int]] = []

    @contextmanager
    def alone() -> Iterator[None]:
        seen.append(("enter", len(engine.calls)))
        yield
        seen.append(("exit", len(engine.calls)))

    first = batcher.submit(np.zeros(1, np.float32), EN)
    assert engine.entered.acquire(timeout=60)
    futures = [batcher.submit(np.zeros(2, np.float32), EN)]
    futures.append(batcher.submit(np.zeros(3, np.float32), EN, alone=alone()))
    futures.append(batcher.submit(np.zeros(4, np.float32), EN))
    await_prepared(batcher)
    engine.gate.set()
    for future in [first, *futures]:
        future.result(60)
    assert engine.calls == [("en", [1]), ("en", [2, 4]), ("en", [3])]
    assert seen == [("enter", 2), ("exit", 3)]


def test_engine_error_fails_its_own_batch_only(engine: GatedEngine, batcher: Batcher) -> None:
    failing = occupy(engine, batcher)
    engine.error = ValueError("broken")
    after = batcher.submit(item(1), EN)
    await_prepared(batcher)
    engine.gate.set()

    with pytest.raises(ValueError, match="broken"):
        failing.result(60)
    assert after.result(60).batch_size == 1
    assert len(engine.calls) == 2


def test_engine_error_reaches_every_item_of_its_batch(
    engine: GatedEngine, batcher: Batcher
) -> None:
    occupy(engine, batcher)
    futures = [batcher.submit(item(n), EN) for n in (1, 2)]
    await_prepared(batcher)
    engine.short_by = 1
    engine.gate.set()

    for future in futures:
        with pytest.raises(ModelError, match="gave 1 results for 2 chunks"):
            future.result(60)


def test_an_inference_tells_how_long_its_item_waited_and_what_memory_the_process_holds(
    engine: GatedEngine, batcher: Batcher
) -> None:
    begun = time.monotonic()
    occupy(engine, batcher)
    waiting = batcher.submit(item(1), EN)
    submitted = time.monotonic()
    threading.Event().wait(0.05)
    held_up_s = time.monotonic() - submitted
    engine.gate.set()
    told = waiting.result(60)

    assert held_up_s <= told.batch_wait_s <= time.monotonic() - begun
    resident = psutil.Process().memory_info().rss
    assert told.device_memory_bytes == pytest.approx(resident, rel=0.2)


def test_cancelled_item_is_not_inferred(engine: GatedEngine, batcher: Batcher) -> None:
    occupy(engine, batcher)
    dropped, kept = batcher.submit(item(1), EN), batcher.submit(item(2), EN)
    assert dropped.cancel()
    await_prepared(batcher)
    engine.gate.set()

    assert kept.result(60).batch_size == 1
    assert engine.calls[1:] == [("en", [2])]


def test_closing_finishes_what_is_queued_and_refuses_more(engine: GatedEngine) -> None:
    batcher = Batcher(engine, max_wait_ms=3_600_000)
    future = batcher.submit(item(1), EN)
    await_prepared(batcher)
    engine.gate.set()

    batcher.close()

    assert future.result(0).batch_size == 1
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(item(2), EN)


def test_streams_work_side_by_side_and_none_beside_a_chunk_that_is_to_be_alone() -> None:
    engine = GatedEngine()
    engine.streams, engine.max_batch = 2, 1
    batcher = Batcher(engine, max_wait_ms=0)
    assert (batcher.batch_size, batcher.room()) == (2, 4)
    both = [occupy(engine, batcher), occupy(engine, batcher)]
    assert batcher.room() == 2
    alone = batcher.submit(item(3), EN, alone=nullcontext())
    after = batcher.submit(item(4), EN)
    await_prepared(batcher)
    engine.gate.set()
    for future in (*both, alone, after):
        future.result(60)
    assert len(engine.threads) == 2
    assert [items for _, items in engine.calls] == [[0], [0], [3], [4]]
    batcher.close()
