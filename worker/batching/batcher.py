"""The thread that calls the engine, with chunks of all running jobs merged into batches."""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

from shared.infra.errors import DeviceOutOfMemory, ModelError
from shared.speech.audio import Samples
from shared.speech.chunks import SAMPLE_RATE, Hypothesis
from worker import metrics
from worker.batching.limit import BatchLimit
from worker.engines.memory import device_memory_bytes
from worker.engines.protocol import DecodeOptions, Engine


@dataclass(frozen=True, slots=True)
class Inference:
    """The result for one chunk, and the engine call that gave it."""

    hypothesis: Hypothesis
    batch_size: int
    """Items in the call."""
    inference_s: float
    """Wall time of the call, all its items together."""
    batch_wait_s: float
    """From submission to the beginning of the call."""
    device_memory_bytes: int | None
    """Device memory that the process held after the call; None where it is not known."""


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    samples: Samples
    options: DecodeOptions
    alone: AbstractContextManager[None] | None
    future: Future[Inference] = field(default_factory=Future)
    submitted: float = field(default_factory=time.monotonic)


class Batcher:
    """Groups chunks by decode options, oldest first, and calls the engine with one group at a time.

    A batch starts when it is full or its oldest item has waited ``max_wait_ms``. A batch that does
    not fit the device's memory is tried again in halves, and later batches are no larger than a
    half until ``BatchLimit`` grows back. An item that does not fit alone gets the error.
    """

    def __init__(
        self,
        engine: Engine,
        max_batch: int | None = None,
        max_wait_ms: float = 5.0,
        *,
        watchdog: AbstractContextManager[None] | None = None,
    ) -> None:
        """Start the thread; from now on it alone uses the engine.

        ``max_batch`` is the most items in one call, by default the engine's. A ``Watchdog`` is
        entered around each call.
        """
        self.engine_version = engine.version
        self.weights_digest = engine.weights_digest
        self.device = f"{engine.device} {engine.dtype}"
        self._engine = engine
        self._limit = BatchLimit(max_batch or engine.max_batch)
        self._max_wait_s = max_wait_ms / 1000
        self._watchdog = watchdog or nullcontext()
        self._queue: deque[_Item] = deque()
        self._n_left = 0
        """Items of the current batch that are not in a call yet, as it was divided."""
        self._is_calling = False
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
        """Queue one chunk; its future can be cancelled until its batch begins.

        The future raises ``DeviceOutOfMemory``, ``ModelError`` or whatever else the engine raised.

        Args:
            samples: shape (n_samples,), at 16 kHz.
            options: chunks with equal options share batches.
            alone: makes the chunk a batch by itself; the engine is called within this context.

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

    @property
    def batch_size(self) -> int:
        """The largest batch, by what has fitted so far."""
        return self._limit.size

    def room(self) -> int:
        """Return how many more chunks the batcher can use now.

        They fill the next batch while the engine works, and the next two while it is idle. So the
        engine never waits for audio, and no chunk waits here for long. Queued chunks count; one
        that is to be alone counts as a batch.
        """
        with self._changed:
            size = self._limit.size
            n_queued = sum(1 if item.alone is None else size for item in self._queue)
            n_batches = 1 if self._is_calling else 2
            return max(0, n_batches * size - n_queued - self._n_left)

    def close(self) -> None:
        """Refuse new chunks, finish those that are queued, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            self._infer(batch)

    def _next_batch(self) -> list[_Item] | None:
        """Wait for the next group and take it, without cancelled items; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            if not self._queue:
                return None
            oldest = self._queue[0]
            # Only this thread removes items, so the oldest stays the oldest meanwhile.
            self._changed.wait_for(
                lambda: self._closing or len(self._group(oldest)) >= self._limit.size,
                timeout=max(0.0, oldest.submitted + self._max_wait_s - time.monotonic()),
            )
            group = self._group(oldest)
            taken = set(map(id, group))
            self._queue = deque(item for item in self._queue if id(item) not in taken)
            batch = [item for item in group if item.future.set_running_or_notify_cancel()]
            self._n_left = len(batch)
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
            part, rest = batch[: self._limit.size], batch[self._limit.size :]
            if self._infer_at_once(part, n_left=len(rest)):
                batch = rest
            else:
                # Not in the ``except``: its error's traceback holds the failed batch's tensors.
                self._limit.failed(len(part))

    def _infer_at_once(self, batch: Sequence[_Item], *, n_left: int) -> bool:
        """Call the engine once; return False where several items are too many for the device."""
        started = time.monotonic()
        try:
            with batch[0].alone or nullcontext(), self._calling(n_left), self._watchdog:
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
        except Exception as error:  # noqa: BLE001 - it is raised in the threads that wait
            for item in batch:
                item.future.set_exception(error)
        else:
            self._limit.fitted(len(batch))
            self._settle(batch, hypotheses, started)
        return True

    @contextmanager
    def _calling(self, n_left: int) -> Iterator[None]:
        """Record, for ``room``, that the engine works and how much of its batch is left."""
        with self._changed:
            self._n_left, self._is_calling = n_left, True
        try:
            yield
        finally:
            with self._changed:
                self._is_calling = False

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
