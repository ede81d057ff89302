"""One thread that owns the engine and merges the chunks of all running jobs into its batches."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from shared.infra.errors import DeviceOutOfMemory, ModelError
from shared.speech.audio import Samples
from shared.speech.chunks import SAMPLE_RATE, Hypothesis
from worker import metrics
from worker.engines.memory import device_memory_bytes
from worker.engines.protocol import DecodeOptions, Engine


@dataclass(frozen=True, slots=True)
class Inference:
    """What a submitted chunk comes back as."""

    hypothesis: Hypothesis
    batch_size: int
    """Items in the engine call that produced it."""
    inference_s: float
    """Wall time of that call, all its items together."""
    batch_wait_s: float
    """From submission to the beginning of that call."""
    device_memory_bytes: int | None
    """What the process held of the device's memory after it, or None: nobody can tell."""


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    samples: Samples
    options: DecodeOptions
    alone: AbstractContextManager[None] | None
    future: Future[Inference] = field(default_factory=Future)
    submitted: float = field(default_factory=time.monotonic)


GROW_AFTER = 4
"""Full batches that must fit before the next ones may be twice as large."""
RETRY_AFTER = 16
"""The same where that size has failed before: memory may be free again, but a try that fails
costs up to a batch's time."""


class BatchLimit:
    """The most items in one call, by what has fitted into the device's memory so far.

    A batch that does not fit halves the limit. From then on ``GROW_AFTER`` full batches that fit
    double it, up to what it was at first; ``RETRY_AFTER`` if so many items have failed before.
    """

    def __init__(self, largest: int) -> None:
        self.size = largest
        self._largest = largest
        self._too_large: int | None = None
        self._n_fitted = 0

    def failed(self, n_items: int) -> None:
        """So many items, two at least, were too many."""
        self.size = n_items // 2
        self._too_large = n_items
        self._n_fitted = 0

    def fitted(self, n_items: int) -> None:
        """So many items were heard at once."""
        if self._too_large is not None and n_items >= self._too_large:
            self._too_large = None
        if n_items < self.size or self.size == self._largest:
            return
        self._n_fitted += 1
        larger = min(2 * self.size, self._largest)
        has_failed = self._too_large is not None and larger >= self._too_large
        if self._n_fitted >= (RETRY_AFTER if has_failed else GROW_AFTER):
            self.size = larger
            self._n_fitted = 0


class Batcher:
    """Groups chunks by decode options, oldest first; calls the engine with one group at a time.

    A batch starts when it is full or when its oldest item has waited ``max_wait_ms``. When the
    device runs out of memory the batch is tried again in halves, and later batches are no larger
    than the half, until they may grow again (``BatchLimit``); an item that fails alone gets the
    error.
    """

    def __init__(
        self, engine: Engine, max_batch: int | None = None, max_wait_ms: float = 5.0
    ) -> None:
        """Start the thread.

        Args:
            engine: used by the batcher's thread only, from now on.
            max_batch: most items in one call; None takes the engine's own limit.
            max_wait_ms: longest wait for a fuller batch.
        """
        self.engine_version = engine.version
        self.weights_digest = engine.weights_digest
        self.device = f"{engine.device} {engine.dtype}"
        self._engine = engine
        self._limit = BatchLimit(max_batch or engine.max_batch)
        self._max_wait_s = max_wait_ms / 1000
        self._queue: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    def submit(
        self,
        samples: Samples,
        options: DecodeOptions,
        *,
        alone: AbstractContextManager[None] | None = None,
    ) -> Future[Inference]:
        """Queue one chunk, shape (n_samples,) at 16 kHz; the future may be cancelled until it runs.

        With ``alone`` it is a batch by itself, and the engine is called within that context.
        The future raises ``DeviceOutOfMemory``, ``ModelError`` or whatever else the engine raised.

        Raises:
            RuntimeError: the batcher is closed.
        """
        item = _Item(samples, options, alone)
        with self._changed:
            if self._closing:
                raise RuntimeError("the batcher is closed")
            self._queue.append(item)
            self._changed.notify()
        return item.future

    def room(self) -> int:
        """Return how many more items fill the next batch, at least one."""
        with self._changed:
            return max(1, self._limit.size - len(self._queue))

    def close(self) -> None:
        """Take no more, finish what is queued, end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            running = [item for item in batch if item.future.set_running_or_notify_cancel()]
            if running:
                self._infer(running)

    def _next_batch(self) -> list[_Item]:
        """Wait for the next group, oldest item first; empty once closed and drained."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            if not self._queue:
                return []
            oldest = self._queue[0]
            # While waiting only this thread takes items away, so the oldest stays the oldest.
            self._changed.wait_for(
                lambda: self._closing or len(self._group(oldest)) >= self._limit.size,
                timeout=max(0.0, oldest.submitted + self._max_wait_s - time.monotonic()),
            )
            batch = self._group(oldest)
            taken = set(map(id, batch))
            self._queue = deque(item for item in self._queue if id(item) not in taken)
            return batch

    def _group(self, oldest: _Item) -> list[_Item]:
        """Return the items that may share a batch with the oldest one."""
        if oldest.alone is not None:
            return [oldest]
        alike = [
            item for item in self._queue if item.options == oldest.options and item.alone is None
        ]
        return alike[: self._limit.size]

    def _infer(self, batch: Sequence[_Item]) -> None:
        """Call the engine and settle every future of the batch, in parts where it does not fit."""
        while batch:
            part = batch[: self._limit.size]
            if self._infer_at_once(part):
                batch = batch[len(part) :]
            else:
                # Here, not where the error was caught: its traceback would hold the failed batch's
                # tensors while the half of it runs.
                self._limit.failed(len(part))

    def _infer_at_once(self, batch: Sequence[_Item]) -> bool:
        """Call the engine once; return False where several items are too many for the device."""
        started = time.monotonic()
        try:
            with batch[0].alone or nullcontext():
                hypotheses = self._engine.transcribe(
                    [item.samples for item in batch], batch[0].options
                )
            if len(hypotheses) != len(batch):
                raise ModelError(
                    f"{self.engine_version} gave {len(hypotheses)} results for {len(batch)} chunks"
                )
        except DeviceOutOfMemory as error:
            if len(batch) > 1:
                return False
            batch[0].future.set_exception(error)
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the waiting steps
            for item in batch:
                item.future.set_exception(error)
        else:
            self._limit.fitted(len(batch))
            self._settle(batch, hypotheses, started)
        return True

    def _settle(
        self, batch: Sequence[_Item], hypotheses: Sequence[Hypothesis], started: float
    ) -> None:
        inference_s = time.monotonic() - started
        memory_bytes = device_memory_bytes(self._engine.device)
        metrics.BATCH_SIZE.observe(len(batch))
        metrics.INFERENCE_S.observe(inference_s)
        metrics.AUDIO_S.inc(sum(len(item.samples) for item in batch) / SAMPLE_RATE)
        if memory_bytes is not None:
            metrics.DEVICE_MEMORY_BYTES.set(memory_bytes)
        for item, hypothesis in zip(batch, hypotheses, strict=True):
            wait_s = started - item.submitted
            item.future.set_result(
                Inference(hypothesis, len(batch), inference_s, wait_s, memory_bytes)
            )
