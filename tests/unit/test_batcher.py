import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import numpy as np
import psutil
import pytest
from fakeengines import Item, ItemEngine
from processes import wait_until

from shared.infra.errors import DeviceOutOfMemory, ModelError
from shared.speech.audio import Samples
from shared.speech.chunks import Hypothesis
from worker.batching.batcher import Batcher
from worker.batching.choice import MOST_PER_WINDOW, choose
from worker.batching.items import Inference
from worker.batching.limit import GROW_AFTER, RETRY_AFTER, BatchLimit
from worker.engines.protocol import DecodeOptions, Prepared

EN, DE = DecodeOptions(language="en"), DecodeOptions(language="de")


class GatedEngine(ItemEngine):
    """Stands in for a device: each call waits for the gate, then names items by their length."""

    version = "gated 1"
    max_batch = 4

    def __init__(self, memory_items: int = 100) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.calls: list[tuple[str | None, list[int]]] = []
        self.threads: set[int] = set()
        self.memory_items = memory_items
        self.short_by = 0
        self.error: Exception | None = None

    def infer(self, batch: Sequence[Prepared[Item]]) -> list[Item | Prepared[Item]]:
        language = batch[0].input.options.language
        self.calls.append((language, [len(item.input.samples) for item in batch]))
        self.threads.add(threading.get_ident())
        self.entered.release()
        assert self.gate.wait(10)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if len(batch) > self.memory_items:
            raise DeviceOutOfMemory("full")
        return super().infer(batch)[self.short_by :]


@pytest.fixture
def engine() -> GatedEngine:
    return GatedEngine()


@pytest.fixture
def batcher(engine: GatedEngine) -> Iterator[Batcher]:
    batcher = Batcher(engine, max_wait_ms=0)
    yield batcher
    engine.gate.set()
    batcher.close()


def item(n: int) -> Samples:
    return np.zeros(n, dtype=np.float32)


def occupy(engine: GatedEngine, batcher: Batcher) -> Future[Inference]:
    """Let the engine work on one item, so that whatever follows queues up behind it."""
    future = batcher.submit(item(0), EN)
    assert engine.entered.acquire(timeout=10)
    return future


def test_queued_items_share_a_batch_by_options_oldest_group_first(
    engine: GatedEngine, batcher: Batcher
) -> None:
    occupy(engine, batcher)
    queued = [(1, DE), (2, EN), (3, DE), (4, DE), (5, EN), (6, DE), (7, DE)]
    futures = [batcher.submit(item(n), options) for n, options in queued]
    engine.gate.set()

    results = [future.result(10) for future in futures]

    assert engine.calls[1:] == [("de", [1, 3, 4, 6]), ("en", [2, 5]), ("de", [7])]
    assert [r.hypothesis.language for r in results] == [str(n) for n, _ in queued]
    assert [r.batch_size for r in results] == [4, 2, 4, 4, 2, 4, 1]
    assert all(r.inference_s >= 0 for r in results)
    assert len(engine.threads) == 1


def test_full_batch_does_not_wait(engine: GatedEngine) -> None:
    engine.gate.set()
    batcher = Batcher(engine, max_batch=2, max_wait_ms=3_600_000)

    futures = [batcher.submit(item(n), EN) for n in (1, 2)]

    assert [future.result(10).batch_size for future in futures] == [2, 2]
    batcher.close()


def test_lone_item_waits_no_longer_than_told(engine: GatedEngine) -> None:
    engine.gate.set()
    batcher = Batcher(engine, max_batch=2, max_wait_ms=1)

    assert batcher.submit(item(1), EN).result(10).batch_size == 1
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
    assert engine.entered.acquire(timeout=10)
    futures = [batcher.submit(np.zeros(2, np.float32), EN)]
    futures.append(batcher.submit(np.zeros(3, np.float32), EN, alone=alone()))
    futures.append(batcher.submit(np.zeros(4, np.float32), EN))
    engine.gate.set()
    for future in [first, *futures]:
        future.result(10)
    assert engine.calls == [("en", [1]), ("en", [2, 4]), ("en", [3])]
    assert seen == [("enter", 2), ("exit", 3)]


def test_batch_too_large_for_the_device_is_halved_and_later_ones_are_no_larger() -> None:
    engine = GatedEngine(memory_items=1)
    batcher = Batcher(engine, max_wait_ms=0)
    occupy(engine, batcher)
    futures = [batcher.submit(item(n), EN) for n in range(1, 7)]
    engine.gate.set()

    results = [future.result(10) for future in futures]

    assert [r.hypothesis.language for r in results] == list("123456")
    assert [len(items) for _, items in engine.calls[1:]] == [4, 2, 1, 1, 1, 1, 1, 1]
    batcher.close()


def test_batches_grow_back_once_the_memory_is_free_again_and_no_item_is_lost() -> None:
    engine = GatedEngine(memory_items=1)
    batcher = Batcher(engine, max_wait_ms=0)
    occupy(engine, batcher)
    squeezed = [batcher.submit(item(n), EN) for n in range(1, 5)]
    engine.gate.set()
    heard = [future.result(10) for future in squeezed]

    engine.memory_items = 4
    engine.gate.clear()
    occupy(engine, batcher)
    freed = [batcher.submit(item(n), EN) for n in range(99)]
    engine.gate.set()
    heard += [future.result(10) for future in freed]

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
    assert [future.result(10).batch_size for future in futures] == [2, 2, 2, 2]
    batcher.close()
    assert engine.held_bytes == 0


def test_item_too_large_for_the_device_gets_the_error() -> None:
    engine = GatedEngine(memory_items=0)
    engine.gate.set()
    batcher = Batcher(engine, max_wait_ms=0)

    with pytest.raises(DeviceOutOfMemory):
        batcher.submit(item(1), EN).result(10)
    batcher.close()


def test_engine_error_fails_its_own_batch_only(engine: GatedEngine, batcher: Batcher) -> None:
    failing = occupy(engine, batcher)
    engine.error = ValueError("broken")
    after = batcher.submit(item(1), EN)
    engine.gate.set()

    with pytest.raises(ValueError, match="broken"):
        failing.result(10)
    assert after.result(10).batch_size == 1
    assert len(engine.calls) == 2


def test_engine_error_reaches_every_item_of_its_batch(
    engine: GatedEngine, batcher: Batcher
) -> None:
    occupy(engine, batcher)
    futures = [batcher.submit(item(n), EN) for n in (1, 2)]
    engine.gate.set()
    engine.short_by = 1

    for future in futures:
        with pytest.raises(ModelError, match="gave 1 results for 2 chunks"):
            future.result(10)


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
    told = waiting.result(10)

    assert held_up_s <= told.batch_wait_s <= time.monotonic() - begun
    resident = psutil.Process().memory_info().rss
    assert told.device_memory_bytes == pytest.approx(resident, rel=0.2)


def test_cancelled_item_is_not_inferred(engine: GatedEngine, batcher: Batcher) -> None:
    occupy(engine, batcher)
    dropped, kept = batcher.submit(item(1), EN), batcher.submit(item(2), EN)
    assert dropped.cancel()
    engine.gate.set()

    assert kept.result(10).batch_size == 1
    assert engine.calls[1:] == [("en", [2])]


def test_closing_finishes_what_is_queued_and_refuses_more(engine: GatedEngine) -> None:
    batcher = Batcher(engine, max_wait_ms=3_600_000)
    future = batcher.submit(item(1), EN)
    engine.gate.set()

    batcher.close()

    assert future.result(0).batch_size == 1
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(item(2), EN)


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
        future.result(10)
    assert batcher.room() == 8


def test_chunks_that_wait_for_a_first_batch_take_room(engine: GatedEngine) -> None:
    batcher = Batcher(engine, max_wait_ms=3_600_000)
    batcher.submit(item(1), EN)
    assert batcher.room() == 7
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
    assert engine.entered.acquire(timeout=10)
    while_two_wait = batcher.room()
    engine.gate.set()
    for future in futures:
        future.result(10)
    # Batches are of two now, and the other two of the four are the next one.
    assert (while_two_wait, batcher.room()) == (0, 4)
    batcher.close()


def test_cancelled_chunks_take_no_room_once_their_turn_has_come(
    engine: GatedEngine, batcher: Batcher
) -> None:
    occupy(engine, batcher)
    assert batcher.submit(item(1), EN).cancel()
    after = batcher.submit(item(2), DE)
    engine.gate.set()
    after.result(10)
    assert batcher.room() == 8


class PickyEngine(GatedEngine):
    """Wants to infer items of 10 samples and more once more; notes which thread does which act."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[int] = []
        self.helpers: set[int] = set()
        self.seen: set[int] = set()

    def prepare(self, samples: Samples, options: DecodeOptions) -> Prepared[Item] | Hypothesis:
        self.helpers.add(threading.get_ident())
        if len(samples) == 7:
            raise ModelError("seven")
        if len(samples) == 8:
            return Hypothesis((), "nothing to hear")
        made = super().prepare(samples, options)
        self.prepared.append(len(samples))
        return made

    def infer(self, batch: Sequence[Prepared[Item]]) -> list[Item | Prepared[Item]]:
        results: list[Item | Prepared[Item]] = []
        for item, result in zip(batch, super().infer(batch), strict=True):
            n = len(item.input.samples)
            again = n >= 10 and n not in self.seen
            self.seen.add(n)
            results.append(Prepared(item.input, 1, group="again") if again else result)
        return results

    def finish(self, raw: Item) -> Hypothesis:
        self.helpers.add(threading.get_ident())
        if len(raw.samples) == 9:
            raise ModelError("nine")
        return super().finish(raw)


@pytest.fixture
def picky() -> Iterator[tuple[PickyEngine, Batcher]]:
    engine = PickyEngine()
    batcher = Batcher(engine, max_wait_ms=0)
    yield engine, batcher
    engine.gate.set()
    batcher.close()


def test_chunks_are_prepared_while_the_device_works_and_by_other_threads(
    picky: tuple[PickyEngine, Batcher],
) -> None:
    engine, batcher = picky
    occupy(engine, batcher)
    futures = [batcher.submit(item(n), EN) for n in (1, 2, 3)]
    wait_until(lambda: len(engine.prepared) == 4)
    assert len(engine.calls) == 1

    engine.gate.set()
    for future in futures:
        future.result(10)
    assert not engine.helpers & engine.threads


def test_what_is_to_be_inferred_once_more_goes_first_and_holds_up_no_other_of_its_batch(
    picky: tuple[PickyEngine, Batcher],
) -> None:
    engine, batcher = picky
    occupy(engine, batcher)
    first = [batcher.submit(item(n), EN) for n in (1, 10, 2, 11)]
    later = [batcher.submit(item(n), EN) for n in (3, 4)]
    wait_until(lambda: len(engine.prepared) == 7)
    engine.gate.set()

    heard = [future.result(10) for future in [*first, *later]]

    sizes = [items for _, items in engine.calls[1:]]
    assert sizes == [[1, 10, 2, 11], [10, 11], [3, 4]]
    assert [each.hypothesis.language for each in heard] == ["1", "10", "2", "11", "3", "4"]
    # The call that began first counts, and the time of both.
    assert [each.batch_size for each in heard] == [4, 4, 4, 4, 2, 2]
    assert heard[1].inference_s > heard[0].inference_s


def test_what_goes_wrong_before_and_after_the_device_is_told_to_that_chunk_alone(
    picky: tuple[PickyEngine, Batcher],
) -> None:
    engine, batcher = picky
    engine.gate.set()
    futures = {n: batcher.submit(item(n), EN) for n in (1, 7, 8, 9)}

    with pytest.raises(ModelError, match="seven"):
        futures[7].result(10)
    with pytest.raises(ModelError, match="nine"):
        futures[9].result(10)
    assert futures[1].result(10).hypothesis.language == "1"
    silent = futures[8].result(10)
    assert (silent.hypothesis.language, silent.batch_size) == ("nothing to hear", 0)
    assert batcher.room() == 8


def test_streams_work_side_by_side_and_none_beside_a_chunk_that_is_to_be_alone() -> None:
    engine = GatedEngine()
    engine.streams, engine.max_batch = 2, 1
    batcher = Batcher(engine, max_wait_ms=0)
    assert (batcher.batch_size, batcher.room()) == (2, 4)
    both = [occupy(engine, batcher), occupy(engine, batcher)]
    assert batcher.room() == 2
    alone = batcher.submit(item(3), EN, alone=nullcontext())
    after = batcher.submit(item(4), EN)
    engine.gate.set()
    for future in (*both, alone, after):
        future.result(10)
    assert len(engine.threads) == 2
    assert [items for _, items in engine.calls] == [[0], [0], [3], [4]]
    batcher.close()


class Length(NamedTuple):
    n_samples: int


def test_a_batch_has_the_oldest_and_those_of_its_length_within_a_budget_of_padded_samples() -> None:
    waiting = [Length(n) for n in (10, 90, 12, 11, 100, 9)]

    chosen = choose(waiting, size=1, window_samples=36)

    # Three items padded to 12 fit 36 samples, four do not.
    assert chosen == ([0, 3, 5], True)
    assert choose(waiting[1:2], size=1, window_samples=36) == ([0], True)
    assert choose([Length(9)] * 2, size=1, window_samples=36) == ([0, 1], False)


def test_a_batch_of_equals_is_the_oldest_of_them() -> None:
    assert choose([Length(5)] * 6, size=4, window_samples=5) == ([0, 1, 2, 3], True)


def test_short_items_share_a_window_up_to_a_number() -> None:
    chosen = choose([Length(1)] * 100, size=2, window_samples=1_000)

    assert chosen == ([*range(2 * MOST_PER_WINDOW)], True)
