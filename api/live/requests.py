"""The requests of one session that are under way."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from api.live.errors import LiveError
from api.live.sessions import LiveSessions
from api.live.timing import Timing
from api.live.voices import Voices
from shared.infra.tracing import Kind, child
from shared.speech.live.requests import LiveAnswer, LiveKind, LiveRequest

LATE_S = 5.0
"""The client is told when a final takes longer than this."""
_TIMINGS = 64
"""Timings that are kept: more than the answers that wait to be told."""


@dataclass(frozen=True, slots=True)
class _UnderWay:
    request: LiveRequest
    received_at: float
    asked_at: float


class Requests:
    """Sends requests to the workers, each in a task of its own, and passes the answers on."""

    def __init__(
        self,
        live: LiveSessions,
        take: Callable[[LiveAnswer], None],
        tell_error: Callable[[LiveError], None],
    ) -> None:
        """``take`` is called with every answer, ``tell_error`` when the workers are behind."""
        self._live = live
        self._take = take
        self._tell_error = tell_error
        self.voices: Voices | None = None
        """Asked about each final; None: nobody wants to know who speaks."""
        self._told_late = self._told_full = self._told_unloaded = False
        self._under_way: dict[asyncio.Task[None], _UnderWay] = {}
        self._started: set[asyncio.Task[None]] = set()
        self._timings: dict[str, Timing] = {}
        """Of the latest answers, by request."""

    def ask(self, request: LiveRequest, received_at: float) -> None:
        """Send a request; ``received_at`` is when the message came that led to it.

        While too many requests wait, a partial fails at once.
        """
        if request.kind is LiveKind.PARTIAL:
            load = self._live.hearer.load(request.model)
            if self._live.is_full(load):
                self._leave_out(request, load.depth)
                return
            self._told_full = False
        self._live.n_requests += 1
        asked = _UnderWay(request, received_at, time.monotonic())
        task = asyncio.create_task(self._hear(asked))
        self._under_way[task] = asked
        task.add_done_callback(lambda done: self._under_way.pop(done, None))

    def drop(self, segment: str) -> None:
        """Cancel the segment's requests that no worker has taken."""
        self._start(self._live.hearer.cancel(segment))

    def tell_if_behind(self, model: str, now: float) -> None:
        """Tell the client once that the model is being loaded, or a final takes longer than LATE_S.

        The first who finds that no worker has the model in memory has one load it.
        """
        load = self._live.hearer.load(model)
        is_unloaded = load.workers > 0 and not load.loaded
        if is_unloaded and not self._told_unloaded:
            self._start(self._live.hearer.rouse(model))
            text = "The model was idle and is being loaded; texts come once it is."
            self._tell_error(LiveError("QUEUE_CONGESTION", text))
        self._told_unloaded = is_unloaded
        late = not is_unloaded and any(
            asked.asked_at < now - LATE_S
            for asked in self._under_way.values()
            if asked.request.kind is LiveKind.FINAL
        )
        if late and not self._told_late:
            self._tell_error(LiveError("QUEUE_CONGESTION", "The answers of the workers are late."))
        self._told_late = late

    def timing_of(self, answer: LiveAnswer) -> Timing | None:
        """Return the timing of an answer; None if it came too long ago."""
        return self._timings.get(answer.id)

    async def close(self) -> None:
        """Give up what is under way."""
        segments = {asked.request.segment for asked in self._under_way.values()}
        tasks = [*self._under_way]
        for task in tasks:
            task.cancel()
        await asyncio.gather(
            *tasks,
            *self._started,
            *(self._live.hearer.cancel(segment) for segment in segments),
            return_exceptions=True,
        )

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._started.add(task)
        task.add_done_callback(self._started.discard)

    def _leave_out(self, partial: LiveRequest, depth: int) -> None:
        self._live.n_refused += 1
        if not self._told_full:
            self._tell_error(LiveError("QUEUE_FULL", f"{depth} requests are waiting: no partials."))
        self._told_full = True
        self._take(LiveAnswer(partial.id, None, error="queue_full"))

    async def _hear(self, asked: _UnderWay) -> None:
        request = asked.request
        is_final = request.kind is LiveKind.FINAL
        hearer = self._live.hearer if self.voices is None or not is_final else self.voices
        if is_final:
            with child("final", Kind.CLIENT, {"longhand.model": request.model}) as span:
                answer = await hearer.hear(request)
                span.set({"longhand.worker": answer.worker, "error.type": answer.error})
        else:
            answer = await hearer.hear(request)
        now = time.monotonic()
        took_ms = 1000 * (now - asked.asked_at)
        if answer.error is None:
            self._live.metrics.answer_s.labels(request.kind).observe(took_ms / 1000)
            timing = Timing(
                preprocess_ms=1000 * (asked.asked_at - asked.received_at),
                queue_wait_ms=answer.queue_ms,
                inference_ms=answer.inference_ms,
                postprocess_ms=max(0.0, took_ms - answer.queue_ms - answer.inference_ms),
            )
            self._timings[request.id] = timing
            if len(self._timings) > _TIMINGS:
                del self._timings[next(iter(self._timings))]
        self._take(answer)
