"""Sends live requests to model workers through Redis.

The process keeps every request until it has its answer: Redis and the workers may lose it. A final
is sent again when its worker is silent, when Redis was away, and when its answer is overdue. The
first answer counts, and later ones are dropped. A partial is never sent again, since a newer one
follows it.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from api.live.hearer import SUPERSEDED, LiveLoad
from api.live.workers import LOOK_S, Workers
from shared.infra.errors import BrokerUnavailable, NoWorker
from shared.infra.settings import Settings
from shared.queue.live import keys
from shared.queue.live.wire import Ask, Beat, decode_reply, encode_ask
from shared.speech.live.requests import LiveAnswer, LiveKind, LiveRequest

log = logging.getLogger(__name__)

NO_ANSWER = "no_answer"
"""Error of a request that no worker has answered in time."""
POISONOUS = "poisonous_input"
"""Error of a request that has killed ``_MOST_DEATHS`` workers."""

_SEND_LIMIT_S = 1.0
_PARTIAL_LIMIT_S = keys.PARTIAL_TTL_S
_FINAL_LIMIT_S = 60.0
"""How long a final waits for its answer."""
_LEAST_OVERDUE_S = 1.25  # by then it is known that a worker is silent
_OVERDUE_TIMES = 4
"""A final is overdue after so many times the mean, and after the above at least."""
_MOST_OVERDUE_S = 8.0
"""The time until a final is sent again doubles each time, up to this."""
_AWAY_S = 0.25
"""Pause while Redis is away."""
_MOST_DEATHS = 2
_MEAN_WEIGHT = 0.1
_BEGUN_SEGMENTS = 10_000
"""Segments whose first partial is remembered."""
_MARK = "live:mark:"
"""A key of each API process. If it is gone, Redis has lost its data."""


@dataclass(slots=True, eq=False)
class _Pending:
    """A request that has no answer yet."""

    request: LiveRequest
    sent_at: float
    answer: "asyncio.Future[LiveAnswer]"
    first: bool = False
    waits_for_load: bool = False
    """Whether every worker had to load the model when it was sent: such times are not measured."""
    resend_at: float = 0.0
    overdue_s: float = _LEAST_OVERDUE_S
    n_sent: int = 0
    n_lost: int = 0
    """Workers that died while they had it in hand."""
    deaths: int = 0
    """Those of them that may have died of it."""

    @property
    def is_final(self) -> bool:
        return self.request.kind is LiveKind.FINAL

    def settle(self, answer: LiveAnswer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, code: str) -> None:
        self.settle(LiveAnswer(self.request.id, None, code))


@dataclass(slots=True)
class _Means:
    """Mean seconds from sending a request to its answer, by model and kind."""

    seconds: dict[tuple[str, LiveKind], float] = field(default_factory=dict)

    def note(self, request: LiveRequest, took_s: float) -> None:
        key = request.model, request.kind
        mean_s = self.seconds.get(key, took_s)
        self.seconds[key] = mean_s + _MEAN_WEIGHT * (took_s - mean_s)


def _blames(beat: Beat, request: str) -> bool:
    """Return whether a worker that died with a request in hand may have died of it."""
    return beat.suspect in (None, request)


class Transcriber:
    """Sends requests to model workers (``api.live.hearer.Hearer``). For use on one event loop."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        """Open nothing yet; ``start`` connects."""
        self._settings = settings
        self._clock = clock
        self._api = uuid.uuid4().hex[:12]
        self._pending: dict[str, _Pending] = {}
        self._begun: OrderedDict[str, None] = OrderedDict()
        self._means = _Means()
        self._is_away = False
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Connect, look which workers are there, and begin to read answers."""
        self._redis = keys.connect_async(self._settings)
        self._reader = keys.connect_async(self._settings, pops=True)
        self._submit = self._redis.register_script(keys.SUBMIT)
        self._workers = Workers(self._redis, self._clock)
        self._has_mark = False
        with contextlib.suppress(*keys.OUTAGES):
            await self._look()
        rounds = {"read": self._read, "look": self._look, "tend": self._tend}
        self._tasks = [
            asyncio.create_task(self._keep(round_), name=f"live-{name}")
            for name, round_ in rounds.items()
        ]

    async def close(self) -> None:
        """Give up what is pending, and disconnect."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pending in [*self._pending.values()]:
            pending.fail(NO_ANSWER)
        await self._redis.aclose()
        await self._reader.aclose()

    async def hear(self, request: LiveRequest) -> LiveAnswer:
        """Return the answer; what cannot be answered has an ``error``.

        A request that a newer one replaces is answered at once, with the error ``SUPERSEDED``.
        Raises nothing but ``CancelledError``.
        """
        now = self._clock()
        answer: asyncio.Future[LiveAnswer] = asyncio.get_running_loop().create_future()
        pending = _Pending(
            request,
            now,
            answer,
            first=self._is_first(request),
            waits_for_load=self._is_unloaded(request.model),
        )
        self._pending[request.id] = pending
        pending.overdue_s = self._overdue_s(request)
        pending.resend_at = now + pending.overdue_s
        try:
            if not await self._send(pending, again=False):
                if not pending.is_final:
                    return LiveAnswer(request.id, None, BrokerUnavailable.code)
                pending.resend_at = 0.0
            # Nothing of what was said is lost, however long the model takes to load.
            is_limited = False
            while not (is_limited or answer.done()):
                is_limited = not (pending.is_final and self._is_unloaded(request.model))
                await asyncio.wait(
                    [answer], timeout=_FINAL_LIMIT_S if pending.is_final else _PARTIAL_LIMIT_S
                )
            if answer.done():
                return answer.result()
            served = self.load(request.model).workers
            return LiveAnswer(request.id, None, NO_ANSWER if served else NoWorker.code)
        finally:
            del self._pending[request.id]

    async def rouse(self, model: str) -> None:
        """Have a worker load the model, by a ticket that leads to no request."""
        tickets = keys.tickets(model, LiveKind.FINAL)
        with contextlib.suppress(*keys.OUTAGES):
            async with asyncio.timeout(_SEND_LIMIT_S), self._redis.pipeline() as pipeline:
                pipeline.rpush(tickets, self._ticket(""))
                pipeline.expire(tickets, keys.TICKETS_TTL_S)
                await pipeline.execute()

    async def cancel(self, segment: str) -> None:
        """Drop the segment's requests: those that no worker has taken are not heard."""
        for pending in [*self._pending.values()]:
            if pending.request.segment == segment:
                pending.fail(SUPERSEDED)
        self._begun.pop(segment, None)
        ticket = self._ticket(segment)
        with contextlib.suppress(*keys.OUTAGES):
            async with asyncio.timeout(_SEND_LIMIT_S):
                await self._redis.delete(*(keys.slots(kind) + ticket for kind in LiveKind))

    def load(self, model: str) -> LiveLoad:
        """Return how busy the model's workers are, from what was heard of them last."""
        return self._workers.load(model, self._means_ms(model))

    def _is_unloaded(self, model: str) -> bool:
        """Return whether there are workers, and each has to load the model first."""
        load = self.load(model)
        return load.workers > 0 and not load.loaded

    def _ticket(self, segment: str) -> str:
        # Another process may have a segment of the same name.
        return f"{self._api}/{segment}"

    def _is_first(self, request: LiveRequest) -> bool:
        if request.kind is not LiveKind.PARTIAL or request.segment in self._begun:
            return False
        self._begun[request.segment] = None
        if len(self._begun) > _BEGUN_SEGMENTS:
            self._begun.popitem(last=False)
        return True

    def _means_ms(self, model: str) -> dict[LiveKind, float]:
        return {
            kind: 1000 * self._means.seconds.get((model, kind), self._workers.mean_s(model, kind))
            for kind in LiveKind
        }

    def _overdue_s(self, request: LiveRequest) -> float:
        mean_s = self._means_ms(request.model)[request.kind] / 1000
        return max(_OVERDUE_TIMES * mean_s, _LEAST_OVERDUE_S)

    async def _send(self, pending: _Pending, *, again: bool) -> bool:
        """Put a request into its slot; return False if Redis cannot be reached."""
        request = pending.request
        alone = pending.deaths > 0 or (again and bool(self._workers.silent(request.id)))
        header = encode_ask(Ask(request, self._api, first=pending.first, alone=alone))
        ticket = self._ticket(request.segment)
        ttl_s = keys.FINAL_TTL_S if pending.is_final else keys.PARTIAL_TTL_S
        try:
            async with asyncio.timeout(_SEND_LIMIT_S):
                superseded = await self._submit(
                    keys=[
                        keys.slots(request.kind) + ticket,
                        keys.tickets(request.model, request.kind),
                        keys.speech(request.model),
                    ],
                    args=[
                        *(ticket, request.id, header, request.pcm, int(1000 * ttl_s)),
                        *("1" if again else "0", keys.TICKETS_TTL_S),
                        int(1000 * keys.SPEECH_TTL_S),
                    ],
                )
        except keys.OUTAGES as error:
            self._note_outage(error)
            return False
        pending.n_sent += 1
        if superseded and (older := self._pending.get(superseded.decode())):
            older.fail(SUPERSEDED)
        return True

    async def _keep(self, round_: Callable[[], Awaitable[float]]) -> None:
        """Repeat a round until the end, with the pause after each that it returns."""
        while not self._closing:
            try:
                pause_s = await round_()
            except keys.OUTAGES as error:
                self._note_outage(error)
                pause_s = _AWAY_S
            except Exception:  # a bug must not end the task
                log.exception("unexpected error: a round is left out")
                pause_s = _AWAY_S
            if pause_s:
                await asyncio.sleep(pause_s)

    def _note_outage(self, error: Exception) -> None:
        if not self._is_away:
            log.warning("live requests wait: Redis cannot be reached: %s", error)
        self._is_away = True
        self._workers.forget()

    def _note_return(self) -> None:
        """Redis is back, perhaps without its data: send all finals again."""
        self._is_away = False
        self._workers.forget()
        for pending in self._pending.values():
            pending.resend_at = 0.0

    async def _read(self) -> float:
        """Wait for answers; hand them to those who wait for them."""
        key = keys.replies(self._api)
        popped = await self._reader.blpop([key], timeout=keys.POP_S)
        if popped is not None:
            more = await self._reader.lpop(key, 64)
            for data in (popped[1], *(more or ())):
                self._take_answer(data)
        return 0.0

    def _take_answer(self, data: bytes) -> None:
        try:
            reply = decode_reply(data)
        except (ValueError, KeyError, TypeError):
            log.exception("an answer of another version is dropped")
            return
        pending = self._pending.get(reply.answer.id)
        if pending is None or pending.answer.done():
            return
        took_s = self._clock() - pending.sent_at
        if reply.answer.error is None and not pending.waits_for_load:
            self._means.note(pending.request, took_s)
        queue_ms = round(max(0.0, 1000 * took_s - reply.since_call_ms), 1)
        pending.settle(replace(reply.answer, queue_ms=queue_ms))

    async def _look(self) -> float:
        """Read the workers' beats; note who has died, and whether Redis has lost its data."""
        mark = _MARK + self._api
        was_there = await self._redis.set(mark, "", ex=60, get=True)
        if self._is_away or (self._has_mark and was_there is None):
            self._note_return()
        self._has_mark = True
        for beat in await self._workers.look():
            self._note_death(beat)
        for pending in self._pending.values():
            if self._may_be_lost(pending):
                pending.resend_at = 0.0
        return LOOK_S

    def _may_be_lost(self, pending: _Pending) -> bool:
        """Return whether all workers that took a request may be dead, and others are there."""
        n_gone = pending.n_lost + len(self._workers.silent(pending.request.id))
        return 0 < pending.n_sent <= n_gone and self._workers.is_served(pending.request.model)

    def _n_suspected(self, pending: _Pending) -> int:
        """Return how many workers may have died of a request."""
        beats = self._workers.silent(pending.request.id)
        return pending.deaths + sum(_blames(beat, pending.request.id) for beat in beats)

    def _note_death(self, beat: Beat) -> None:
        """Have the finals sent again that a dead worker had in hand; its suspect is to blame."""
        if beat.in_hand:
            log.warning("worker %s died with %d live requests", beat.worker, len(beat.in_hand))
        for request in beat.in_hand:
            pending = self._pending.get(request)
            if pending is None or not pending.is_final:
                continue
            pending.n_lost += 1
            pending.deaths += _blames(beat, request)
            if pending.deaths >= _MOST_DEATHS:
                pending.fail(POISONOUS)
            pending.resend_at = 0.0

    async def _tend(self) -> float:
        """Send finals again that are due."""
        now = self._clock()
        for pending in [*self._pending.values()]:
            due = pending.is_final and not pending.answer.done() and pending.resend_at <= now
            # What may have ended that many workers waits until that is known.
            if not due or self._n_suspected(pending) >= _MOST_DEATHS:
                continue
            if not await self._send(pending, again=True):
                return _AWAY_S
            pending.overdue_s = min(2 * pending.overdue_s, max(_MOST_OVERDUE_S, pending.overdue_s))
            pending.resend_at = self._clock() + pending.overdue_s
        return 0.05
