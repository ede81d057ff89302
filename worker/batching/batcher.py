"""The threads that call the engine, with chunks of all running jobs merged into batches."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from shared.infra.errors import DeviceOutOfMemory, ModelError
from shared.speech.audio import Samples
from shared.speech.chunks import SAMPLE_RATE, Hypothesis
from worker import metrics
from worker.batching.choice import choose, count_fitting, windows
from worker.batching.items import Inference, Item
from worker.batching.limit import BatchLimit
from worker.engines.memory import device_memory_bytes
from worker.engines.protocol import DecodeOptions, Engine, Prepared

_N_HELPERS = min(4, os.cpu_count() or 1)
"""Threads that prepare and finish items."""
_PREPARATION_S = 0.1
"""How much longer a batch waits while chunks are being prepared that could be in it."""


class Batcher:
    """Groups chunks and calls the engine, in as many threads as it has streams.

    Helper threads prepare chunks ahead of the device and finish its results, so it waits for
    neither. A batch starts when it is full or its oldest chunk has waited ``max_wait_ms``. What the
    engine wants to infer once more goes before all others.

    A batch that does not fit the device's memory is tried again in halves, and later batches are no
    larger than a half until ``BatchLimit`` grows back. A chunk that does not fit alone gets the
    error.
    """

    def __init__(
        self,
        engine: Engine,
        max_batch: int | None = None,
        max_wait_ms: float = 5.0,
        *,
        watchdog: AbstractContextManager[None] | None = None,
    ) -> None:
        """Start the threads; from now on they alone use the engine.

        ``max_batch`` is the most windows in one call, by default the engine's. A ``Watchdog`` is
        entered around each call.
        """
        self.engine_version = engine.version
        self.weights_digest = engine.weights_digest
        self.device = f"{engine.device} {engine.dtype}"
        self._engine = engine
        self._limit = BatchLimit(max_batch or engine.max_batch)
        self._max_wait_s = max_wait_ms / 1000
        self._watchdog = watchdog or nullcontext()
        self._queue: list[Item] = []
        """Items that no call has taken, oldest first."""
        self._n_left = 0
        """Items of current batches that are not in a call yet, as these were divided."""
        self._n_calling = 0
        self._n_taken = 0
        """Streams that are at a batch, before, in and after its calls."""
        self._is_exclusive = False
        """Whether the batch under way is a chunk that is to be alone."""
        self._mean_share = 1.0
        """Length of recent chunks, in windows."""
        self._changed = threading.Condition()
        self._closing = False
        self._helpers = ThreadPoolExecutor(_N_HELPERS, thread_name_prefix="batcher-helper")
        self._threads = [
            threading.Thread(target=self._run, name=f"batcher-{i}", daemon=True)
            for i in range(engine.streams)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        samples: Samples,
        options: DecodeOptions,
        *,
        alone: AbstractContextManager[None] | None = None,
    ) -> Future[Inference]:
        """Queue one chunk; its future can be cancelled until its batch begins.

        The future raises ``DeviceOutOfMemory``, ``ModelError`` or whatever else the engine raised.

        Args:
            samples: shape (n_samples,), at 16 kHz.
            options: how to decode it.
            alone: makes the chunk a batch by itself, beside which no other call runs; the engine is
                called within this context.

        Raises:
            RuntimeError: the batcher is closed.
        """
        item = Item(samples, options, alone)
        with self._changed:
            if self._closing:
                raise RuntimeError("the batcher is closed")
            self._queue.append(item)
            if alone is None:
                self._helpers.submit(self._prepare, item)
            self._changed.notify_all()
        return item.future

    @property
    def batch_size(self) -> int:
        """How many chunks of full length are inferred at once, by what has fitted so far."""
        return self._limit.size * self._engine.streams

    def room(self) -> int:
        """Return how many more chunks the batcher can use now.

        They fill the next batch of each stream while it works, and the next two while it is idle.
        So the engine never waits for audio, and no chunk waits here for long. Queued chunks count;
        one that is to be alone counts as a batch. Of short chunks a batch holds more.
        """
        with self._changed:
            size = self._limit.size
            n_queued = sum(1 if item.alone is None else size for item in self._queue)
            n_batches = 2 * self._engine.streams - self._n_calling
            n_per_batch = int(size / self._mean_share)
            return max(0, n_batches * n_per_batch - n_queued - self._n_left)

    def close(self) -> None:
        """Refuse new chunks, finish those that are queued, and end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._helpers.shutdown()

    def _prepare(self, item: Item) -> None:
        """First act, on a helper thread."""
        try:
            prepared = self._engine.prepare(item.samples, item.options)
        except Exception as error:  # noqa: BLE001 - it is raised in the thread that waits
            self._drop(item)
            if item.future.set_running_or_notify_cancel():
                item.future.set_exception(error)
            return
        if not isinstance(prepared, Prepared):
            self._drop(item)
            if item.future.set_running_or_notify_cancel():
                item.begun = time.monotonic()
                self._settle(item, prepared)
            return
        with self._changed:
            item.prepared = prepared
            share = min(1.0, max(0.25, prepared.n_samples / self._engine.window_samples))
            self._mean_share += (share - self._mean_share) / 16
            self._changed.notify_all()

    def _drop(self, item: Item) -> None:
        with self._changed:
            self._queue.remove(item)
            self._changed.notify_all()

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            if batch and batch[0].alone is not None:
                self._infer_alone(batch[0])
            elif batch:
                self._infer(batch)
            with self._changed:
                self._n_taken -= 1
                self._is_exclusive = False
                self._changed.notify_all()

    def _next_batch(self) -> list[Item] | None:
        """Wait for the next group and take it, without cancelled items; None at the end."""
        with self._changed:
            while True:
                if self._closing and not self._queue:
                    return None
                taken, wait_s = self._choose()
                if taken:
                    break
                self._changed.wait(wait_s)
            chosen = set(map(id, taken))
            self._queue = [item for item in self._queue if id(item) not in chosen]
            batch = [
                item
                for item in taken
                if item.begun is not None or item.future.set_running_or_notify_cancel()
            ]
            self._n_left += len(batch)
            self._n_taken += 1
            self._is_exclusive = taken[0].alone is not None
            return batch

    def _choose(self) -> tuple[list[Item], float | None]:
        """Return the next batch; or none, and in how many seconds to look again, if not woken."""
        ready = [item for item in self._queue if item.is_ready]
        if not ready or self._is_exclusive:
            return [], None
        oldest = ready[0]
        if oldest.alone is not None:
            must_wait = self._n_taken or oldest is not self._queue[0]
            return ([] if must_wait else [oldest]), None
        assert oldest.prepared is not None
        group = oldest.prepared.group
        alike = [item for item in ready if item.prepared and item.prepared.group == group]
        indices, is_full = choose(alike, self._limit.size, self._engine.window_samples)
        batch = [alike[i] for i in indices]
        until = oldest.submitted + self._max_wait_s
        if len(ready) < len(self._queue):
            until += _PREPARATION_S
        wait_s = until - time.monotonic()
        if is_full or wait_s <= 0 or self._closing:
            return batch, None
        return [], wait_s

    def _infer_alone(self, item: Item) -> None:
        """Do all acts of a chunk within its context, while no other call runs."""
        item.begun = time.monotonic()
        assert item.alone is not None
        try:
            with item.alone, self._calling(1), self._watchdog:
                (hypothesis,) = self._engine.transcribe([item.samples], item.options)
        except Exception as error:  # noqa: BLE001 - it is raised in the thread that waits
            item.future.set_exception(error)
        else:
            self._note_call([item], time.monotonic() - item.begun)
            self._settle(item, hypothesis)

    def _infer(self, batch: Sequence[Item]) -> None:
        """Call the engine for every item of the batch, in parts where it does not fit."""
        most = len(batch)
        while batch:
            n = count_fitting(batch[:most], self._limit.size, self._engine.window_samples)
            part, rest = batch[:n], batch[n:]
            if self._infer_at_once(part):
                batch = rest
            else:
                # Not in the ``except``: its error's traceback holds the failed batch's tensors.
                most = max(1, n // 2)
                with self._changed:
                    self._limit.failed(self._windows(part))

    def _infer_at_once(self, batch: Sequence[Item]) -> bool:
        """Call the engine once; return False where several items are too many for the device."""
        started = time.monotonic()
        try:
            with self._calling(len(batch)), self._watchdog:
                results = self._engine.infer([item.prepared for item in batch if item.prepared])
            if len(results) != len(batch):
                raise ModelError(
                    f"{self.engine_version} gave {len(results)} results for {len(batch)} chunks"
                )
        except DeviceOutOfMemory as error:
            if len(batch) > 1:
                with self._changed:
                    self._n_left += len(batch)
                return False
            batch[0].future.set_exception(error)
        except Exception as error:  # noqa: BLE001 - it is raised in the threads that wait
            for item in batch:
                item.future.set_exception(error)
        else:
            with self._changed:
                self._limit.fitted(self._windows(batch))
            for item in batch:
                item.begun = item.begun or started
            self._note_call(batch, time.monotonic() - started)
            self._pass_on(batch, results)
        return True

    @contextmanager
    def _calling(self, n_items: int) -> Iterator[None]:
        """Record, for ``room`` and for chunks that are to be alone, that a stream works."""
        with self._changed:
            self._n_left -= n_items
            self._n_calling += 1
        try:
            yield
        finally:
            with self._changed:
                self._n_calling -= 1
                self._changed.notify_all()

    def _windows(self, batch: Sequence[Item]) -> int:
        longest = max(item.n_samples for item in batch)
        return windows(len(batch), longest, self._engine.window_samples)

    def _note_call(self, batch: Sequence[Item], inference_s: float) -> None:
        metrics.BATCH_SIZE.observe(len(batch))
        metrics.INFERENCE_S.observe(inference_s)
        for item in batch:
            item.batch_size = item.batch_size or len(batch)
            item.inference_s += inference_s

    def _pass_on(self, batch: Sequence[Item], results: Sequence[Any]) -> None:
        """Put what is to be inferred once more before all others; have the rest finished."""
        again = []
        for item, result in zip(batch, results, strict=True):
            if isinstance(result, Prepared):
                item.prepared = result
                again.append(item)
            else:
                self._helpers.submit(self._finish, item, result)
        if again:
            with self._changed:
                self._queue[:0] = again
                self._changed.notify_all()

    def _finish(self, item: Item, raw: Any) -> None:
        """Third act, on a helper thread."""
        try:
            hypothesis = self._engine.finish(raw)
        except Exception as error:  # noqa: BLE001 - it is raised in the thread that waits
            item.future.set_exception(error)
        else:
            self._settle(item, hypothesis)

    def _settle(self, item: Item, hypothesis: Hypothesis) -> None:
        memory_bytes = device_memory_bytes(self._engine.device)
        metrics.AUDIO_S.inc(len(item.samples) / SAMPLE_RATE)
        if memory_bytes is not None:
            metrics.DEVICE_MEMORY_BYTES.set(memory_bytes)
        assert item.begun is not None
        wait_s = item.begun - item.submitted
        item.future.set_result(
            Inference(hypothesis, item.batch_size, item.inference_s, wait_s, memory_bytes)
        )
