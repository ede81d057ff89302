"""Batches that do not fit the device's memory."""

import weakref
from collections.abc import Sequence

import numpy as np
import pytest

from harness.engines.fake import Item
from harness.engines.gated import EN, GatedEngine, await_prepared, item, occupy
from shared.infra.errors import DeviceOutOfMemory
from shared.speech.audio.samples import Samples
from worker.batching.batcher import Batcher
from worker.batching.limit import GROW_AFTER, RETRY_AFTER, BatchLimit
from worker.engines.protocol import Prepared


def test_batch_too_large_for_the_device_is_halved_and_later_ones_are_no_larger() -> None:
    engine = GatedEngine(memory_items=1)
    batcher = Batcher(engine, max_wait_ms=0)
    occupy(engine, batcher)
    futures = [batcher.submit(item(n), EN) for n in range(1, 7)]
    await_prepared(batcher)
    engine.gate.set()

    results = [future.result(60) for future in futures]

    assert [r.hypothesis.language for r in results] == list("123456")
    assert [len(items) for _, items in engine.calls[1:]] == [4, 2, 1, 1, 1, 1, 1, 1]
    batcher.close()


def test_batches_grow_back_once_the_memory_is_free_again_and_no_item_is_lost() -> None:
    engine = GatedEngine(memory_items=1)
    batcher = Batcher(engine, max_wait_ms=0)
    occupy(engine, batcher)
    squeezed = [batcher.submit(item(n), EN) for n in range(1, 5)]
    await_prepared(batcher)
    engine.gate.set()
    heard = [future.result(60) for future in squeezed]

    engine.memory_items = 4
    engine.gate.clear()
    occupy(engine, batcher)
    freed = [batcher.submit(item(n), EN) for n in range(99)]
    await_prepared(batcher)
    engine.gate.set()
    heard += [future.result(60) for future in freed]

    assert [r.hypothesis.language for r in heard] == [*"1234", *map(str, range(99))]
    sizes = [r.batch_size for r in heard]
    assert (sizes[0], sizes[-1]) == (1, 4)
    assert sizes == sorted(sizes)
    batcher.close()


def test_a_limit_doubles_after_a_few_full_batches_and_later_where_that_size_has_failed() -> None:
    limit = BatchLimit(12)
    limit.failed(12)
    limit.failed(6)
    assert limit.size == 3

    limit.fitted(2)  # not full: says nothing of a larger one
    grown = {}
    for n_fitted in range(1, 100):
        before = limit.size
        limit.fitted(before)
        if limit.size != before:
            grown[limit.size] = n_fitted

    # Six have failed, and since they have not, twelve are no longer known to.
    assert grown == {6: RETRY_AFTER, 12: RETRY_AFTER + GROW_AFTER}


def test_a_limit_that_fails_again_is_halved_again() -> None:
    limit = BatchLimit(8)
    limit.failed(8)
    for _ in range(RETRY_AFTER):
        limit.fitted(4)
    assert limit.size == 8

    limit.failed(8)

    assert limit.size == 4
    for _ in range(RETRY_AFTER - 1):
        limit.fitted(4)
    assert limit.size == 4


class BudgetEngine(GatedEngine):
    """Has memory for ``memory_items`` items: what it allocates counts until it is freed."""

    ITEM_BYTES = 1_000

    def __init__(self, memory_items: int) -> None:
        super().__init__()
        self.gate.set()
        self.budget_bytes = memory_items * self.ITEM_BYTES
        self.held_bytes = 0

    def infer(self, batch: Sequence[Prepared[Item]]) -> list[Item | Prepared[Item]]:
        tensors: list[Samples] = []
        for _ in batch:
            tensors.append(self._allocate())  # noqa: PERF401 - a local, so that a traceback holds it
        return super().infer(batch)

    def _allocate(self) -> Samples:
        if self.held_bytes + self.ITEM_BYTES > self.budget_bytes:
            raise DeviceOutOfMemory("full")
        tensor = np.zeros(self.ITEM_BYTES // 4, dtype=np.float32)
        self.held_bytes += self.ITEM_BYTES
        weakref.finalize(tensor, self._free)
        return tensor

    def _free(self) -> None:
        self.held_bytes -= self.ITEM_BYTES


def test_a_batch_that_failed_holds_no_memory_while_its_half_runs() -> None:
    engine = BudgetEngine(memory_items=3)
    batcher = Batcher(engine, max_batch=4, max_wait_ms=3_600_000)

    futures = [batcher.submit(item(n), EN) for n in range(1, 5)]

    # Beside what the failed batch had allocated of three, not even one item would fit.
    assert [future.result(60).batch_size for future in futures] == [2, 2, 2, 2]
    batcher.close()
    assert engine.held_bytes == 0


def test_item_too_large_for_the_device_gets_the_error() -> None:
    engine = GatedEngine(memory_items=0)
    engine.gate.set()
    batcher = Batcher(engine, max_wait_ms=0)

    with pytest.raises(DeviceOutOfMemory):
        batcher.submit(item(1), EN).result(60)
    batcher.close()
