"""An engine whose calls wait for a gate, so that a test decides when the device works."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np

from harness.engines.fake import Item, ItemEngine
from harness.programs.workers import wait_until
from shared.infra.errors import DeviceOutOfMemory
from shared.speech.audio.samples import Samples
from worker.batching.batcher import Batcher
from worker.batching.items import Inference
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
        assert self.gate.wait(60)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if len(batch) > self.memory_items:
            raise DeviceOutOfMemory("full")
        return super().infer(batch)[self.short_by :]


def item(n: int) -> Samples:
    return np.zeros(n, dtype=np.float32)


def occupy(engine: GatedEngine, batcher: Batcher) -> Future[Inference]:
    """Let the engine work on one item, so that whatever follows queues up behind it."""
    future = batcher.submit(item(0), EN)
    assert engine.entered.acquire(timeout=60)
    return future


def begin_with(batcher: Batcher, n_items: int) -> None:
    """Have a batcher that waits for long begin once so many items are prepared.

    What is to be alone does not count.
    """
    schedule = batcher._schedule

    def n_prepared() -> int:
        return sum(item.is_ready and item.alone is None for item in [*schedule._queue])

    def begin() -> None:
        wait_until(lambda: n_prepared() == n_items)
        with batcher._changed:
            schedule._max_wait_s = 0.0
            batcher._changed.notify_all()

    threading.Thread(target=begin, daemon=True).start()


def await_prepared(batcher: Batcher) -> None:
    """Wait until the helper threads have prepared all that is queued."""
    wait_until(lambda: all(item.is_ready for item in batcher._schedule._queue))
