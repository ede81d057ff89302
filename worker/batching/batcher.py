"""The threads that call the engine, with batches of items from all jobs and live sessions."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from shared.infra.errors import DeviceOutOfMemory, ModelError
from shared.infra.tracing import NO_SPAN, Span, begin_trace
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Hypothesis
from worker import metrics
from worker.batching.choice import count_fitting
from worker.batching.items import Inference, Item, Lane
from worker.batching.schedule import Schedule
from worker.batching.shared_device import SharedDevice
from worker.engines.memory import device_memory_bytes
from worker.engines.protocol import DecodeOptions, Engine, Prepared

_N_HELPERS = min(4, os.cpu_count() or 1)
"""Threads that prepare and finish items."""


class Batcher:
    """Calls the engine, in as many threads as it has streams, with what a ``Schedule`` decides.

    Helper threads prepare items ahead of the device and finish its results, so it waits for
    neither. A batch starts when it is full or its first item has waited ``max_wait_ms``. What the
    engine wants to infer once more goes before all others of its lane.

    A batch that does not fit the device's memory is tried again in halves, and later batches are no
    larger than a half until ``BatchLimit`` grows back. An item that does not fit alone gets the
    error.
    """

    def __init__(
        self,
        engine: Engine,
        max_batch: int | None = None,
        max_wait_ms: float = 5.0,
        *,
        live_call_ms: float = 150.0,
        watchdog: AbstractContextManager[None] | None = None,
        device: SharedDevice | None = None,
        make_room: Callable[[], bool] | None = None,
    ) -> None:
        """Start the threads; from now on they alone use the engine.

        Args:
            engine: what infers.
            max_batch: the most windows in one call, by default the engine's.
            max_wait_ms: how long the first item of a batch waits for others.
            live_call_ms: how long a call should take while somebody speaks.
            watchdog: entered around each call.
            device: what other engines may use as well, by default one of its own.
            make_room: frees memory of the device and returns whether it could; called once for a
                batch that does not fit, which is then tried again. None: nothing can be freed.
        """
        self.engine_version = engine.version
        self.weights_digest = engine.weights_digest
        self.device = f"{engine.device} {engine.dtype}"
        self.gives_way = False
        """Whether the engine is to be dropped soon: whoever uses it ends with what is in hand."""
        self.max_batch = max_batch or engine.max_batch
        self._engine = engine
        self._watchdog = watchdog or nullcontext()
        self._shared = device or SharedDevice()
        self._make_room = make_room
        self._schedule = Schedule(
            self.max_batch,
            window_samples=engine.window_samples,
            streams=engine.streams,
            max_wait_s=max_wait_ms / 1000,
            live_call_s=live_call_ms / 1000,
        )
        self._changed = self._shared.changed
        """Guards the schedule."""
        self._closing = False
        self._helpers = ThreadPoolExecutor(_N_HELPERS, thread_name_prefix="batcher-helper")
        self._threads = [
            threading.Thread(target=self._run, args=(i,), name=f"batcher-{i}", daemon=True)
            for i in range(engine.streams)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        samples: Samples,
        options: DecodeOptions,
        *,
        lane: Lane = Lane.BATCH,
        first: bool = False,
        alone: AbstractContextManager[None] | None = None,
        span: Span = NO_SPAN,
    ) -> Future[Inference]:
        """Queue one item; its future can be cancelled until its batch begins.

        The future raises ``DeviceOutOfMemory``, ``ModelError`` or whatever else the engine raised.

        Args:
            samples: shape (n_samples,), at 16 kHz.
            options: how to decode it.
            lane: what it is for.
            first: whether it is the first partial of an utterance, which waits for no chunk's turn.
            alone: makes the item a batch by itself, beside which no other call runs; the engine is
                called within this context.
            span: whose work it is part of; linked with each call's.

        Raises:
            RuntimeError: the batcher is closed.
        """
        item = Item(samples, options, alone, lane, first, span)
        with self._changed:
            if self._closing:
                raise RuntimeError("the batcher is closed")
            self._schedule.add(item, time.monotonic())
            if alone is None:
                self._helpers.submit(self._prepare, item)
            self._changed.notify_all()
        return item.future

    @property
    def batch_size(self) -> int:
        """How many chunks of full length are inferred at once, by what has fitted so far."""
        return self._schedule.limit.size * self._engine.streams

    def room(self) -> int:
        """Return how many more chunks the batcher can use now (``Schedule.room``)."""
        with self._changed:
            return self._schedule.room(time.monotonic())

    def live_room(self, within_s: float = 0.0) -> int:
        """Return how many live items could be inferred at once, as soon as that is any; else 0.

        It is 0 until a stream is free or about to be: what another worker could begin earlier is
        not to wait here.
        """
        until = time.monotonic() + within_s
        with self._changed:
            while True:
                now = time.monotonic()
                room = 0 if self._closing else self._schedule.live_room(now)
                if room or now >= until or self._closing:
                    return room
                self._changed.wait(min(until - now, self._schedule.next_live_room_s(now)))

    def live_capacity(self) -> int:
        """Return how many live items can be inferred at once while no chunk is."""
        with self._changed:
            return self._schedule.live_capacity()

    def busy_s(self) -> float:
        """Return the seconds until a stream is free, by prediction."""
        with self._changed:
            return self._schedule.busy_s(time.monotonic())

    def note_speech(self) -> None:
        """Somebody speaks to this model, if only by way of another worker: calls stay short."""
        with self._changed:
            self._schedule.note_speech(time.monotonic())

    def reserve(self, *, is_reserved: bool) -> None:
        """Keep chunks that take long back while somebody speaks, as from the start, or do not."""
        with self._changed:
            self._schedule.reserve(is_reserved=is_reserved)
            self._changed.notify_all()

    def is_idle(self) -> bool:
        """Return whether nothing waits and no call is under way."""
        with self._changed:
            return self._schedule.is_idle

    def close(self) -> None:
        """Refuse new items, finish those that are queued, end the threads, and drop the engine."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._helpers.shutdown()
        del self._engine  # whoever still asks for room must not keep the weights in memory

    def _prepare(self, item: Item) -> None:
        """First act, on a helper thread."""
        try:
            prepared = self._engine.prepare(item.samples, item.options)
        except Exception as error:  # noqa: BLE001 - it is raised in the thread that waits
            if self._drop(item):
                item.future.set_exception(error)
            return
        if not isinstance(prepared, Prepared):
            if self._drop(item):
                item.begun = time.monotonic()
                self._settle(item, prepared)
            return
        with self._changed:
            item.prepared = prepared
            self._schedule.note_prepared(item)
            self._changed.notify_all()

    def _drop(self, item: Item) -> bool:
        """Take an item that needs no call out of the queue; return whether it is still wanted."""
        with self._changed:
            self._changed.notify_all()
            return self._schedule.remove(item)

    def _run(self, stream: int) -> None:
        while batch := self._next_batch():
            if batch[0].alone is not None:
                self._infer_alone(stream, batch[0])
            else:
                self._infer(stream, batch)
            with self._changed:
                self._schedule.finish_turn()
                self._shared.end()

    def _next_batch(self) -> list[Item]:
        """Wait for the next batch, and for the device, and take it; it is empty at the end.

        What it consists of is decided when the device is free for it.
        """
        with self._changed:
            while not (self._closing and self._schedule.is_empty):
                now = time.monotonic()
                if self._shared.is_free_for(self):
                    turn = self._schedule.next(now, closing=self._closing)
                    if turn.items:
                        self._shared.begin(self, self._engine.streams)
                        return turn.items
                    self._shared.leave_line(self)
                else:
                    turn = self._schedule.preview(now, closing=self._closing)
                    if turn.items:
                        self._shared.stand_in_line(self)
                self._changed.wait(turn.wait_s)
            self._shared.leave_line(self)
            return []

    def _infer_alone(self, stream: int, item: Item) -> None:
        """Do all acts of an item within its context, while no other call runs."""
        item.begun = time.monotonic()
        assert item.alone is not None
        try:
            with item.alone:
                hypothesis = self._transcribe(stream, item, may_fail=self._make_room is not None)
                if hypothesis is None:
                    assert self._make_room is not None
                    self._make_room()
                    hypothesis = self._transcribe(stream, item)
        except Exception as error:  # noqa: BLE001 - it is raised in the thread that waits
            item.future.set_exception(error)
        else:
            assert hypothesis is not None
            self._note_call([item], time.monotonic() - item.begun)
            self._settle(item, hypothesis)

    def _transcribe(self, stream: int, item: Item, *, may_fail: bool = False) -> Hypothesis | None:
        """Hear an item alone; if it ``may_fail``, return None where memory is too small for it."""
        try:
            with self._calling(stream, [item]):
                (hypothesis,) = self._engine.transcribe([item.samples], item.options)
        except DeviceOutOfMemory:
            if not may_fail:
                raise
        else:
            return hypothesis
        with self._changed:
            self._schedule.return_to_turn([item], too_large=False)
        return None

    def _infer(self, stream: int, batch: Sequence[Item]) -> None:
        """Call the engine for every item of the batch, in parts where it does not fit."""
        most = len(batch)
        window_samples = self._engine.window_samples
        make_room = self._make_room
        while batch:
            n = count_fitting(batch[:most], self._schedule.limit.size, window_samples)
            part, rest = batch[:n], batch[n:]
            if self._infer_at_once(stream, part, may_fail=n > 1 or make_room is not None):
                batch = rest
            else:
                # Not in the ``except``: its error's traceback holds the failed batch's tensors.
                has_room = make_room is not None and make_room()
                make_room = None
                if not has_room:
                    most = max(1, n // 2)
                with self._changed:
                    self._schedule.return_to_turn(part, too_large=n > 1 and not has_room)

    def _infer_at_once(self, stream: int, batch: Sequence[Item], *, may_fail: bool) -> bool:
        """Call the engine once; return False where that ``may_fail`` and memory is too small."""
        started = time.monotonic()
        try:
            with self._calling(stream, batch):
                results = self._engine.infer([item.prepared for item in batch if item.prepared])
            if len(results) != len(batch):
                raise ModelError(
                    f"{self.engine_version} gave {len(results)} results for {len(batch)} chunks"
                )
        except DeviceOutOfMemory as error:
            if may_fail:
                return False
            batch[0].future.set_exception(error)
        except Exception as error:  # noqa: BLE001 - it is raised in the threads that wait
            for item in batch:
                item.future.set_exception(error)
        else:
            for item in batch:
                item.begun = item.begun or started
            self._note_call(batch, time.monotonic() - started)
            self._pass_on(batch, results)
        return True

    @contextmanager
    def _calling(self, stream: int, items: Sequence[Item]) -> Iterator[None]:
        """Tell the schedule of a call, the watchdog, and traces of whom it concerns."""
        span = self._begin_span(items)
        with self._changed:
            self._schedule.begin_call(stream, items, time.monotonic())
        succeeded = False
        try:
            with self._watchdog:
                yield
            succeeded = True
        except Exception as error:
            span.end(error)
            raise
        finally:
            span.end()
            with self._changed:
                self._schedule.end_call(stream, time.monotonic(), succeeded=succeeded)
                self._changed.notify_all()

    def _begin_span(self, items: Sequence[Item]) -> Span:
        """Begin the span of a call: a trace of its own, as several jobs have a part in it."""
        linked = [item.span for item in items if item.span.is_recording]
        if not linked:
            return NO_SPAN
        span = begin_trace(
            "infer",
            links=[each.context for each in linked if each.context is not None],
            attributes={
                "longhand.batch.size": len(items),
                "longhand.batch.audio_s": sum(len(item.samples) for item in items) / SAMPLE_RATE,
                "longhand.engine": self.engine_version,
                "longhand.device": self.device,
            },
        )
        for each in linked:
            each.link(span.context)
        return span

    def _note_call(self, batch: Sequence[Item], inference_s: float) -> None:
        metrics.BATCH_SIZE.observe(len(batch))
        metrics.INFERENCE_S.observe(inference_s)
        for item in batch:
            item.batch_size = item.batch_size or len(batch)
            item.inference_s += inference_s

    def _pass_on(self, batch: Sequence[Item], results: Sequence[Any]) -> None:
        """Queue what is to be inferred once more; have the rest finished."""
        again = []
        for item, result in zip(batch, results, strict=True):
            if isinstance(result, Prepared):
                item.prepared = result
                again.append(item)
            else:
                self._helpers.submit(self._finish, item, result)
        if again:
            with self._changed:
                self._schedule.add_again(again)
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
