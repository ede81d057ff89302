"""The thread that takes live requests, when the device is about to be free, and has them heard."""

import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

import redis

from shared.infra.errors import (
    EngineFailed,
    InternalError,
    LonghandError,
    UnsupportedLanguage,
    UnsupportedOption,
    WorkerStopping,
)
from shared.infra.settings import Settings
from shared.models.catalogue import Model
from shared.queue.live import keys
from shared.queue.live.wire import Ask, Reply, decode_ask, encode_reply
from shared.speech.live.requests import LiveAnswer, LiveKind, LiveRequest
from shared.store.queues import model_queue
from worker import metrics
from worker.batching.batcher import Batcher
from worker.batching.items import Inference, Lane
from worker.batching.resident import ResidentModel
from worker.engines.protocol import DecodeOptions
from worker.live.answers import Answers
from worker.live.beats import Beats
from worker.live.hands import Hands
from worker.process import drain
from worker.steps.infer import restart
from worker.steps.pcm import samples_of

log = logging.getLogger(__name__)

_LOOK_S = 0.5
"""How often the thread looks whether it is to end."""
_ROUSE_S = 0.25
"""How often it looks whether a request waits for a model that is not loaded."""
_AWAY_S = 0.2
"""Pause while Redis is away."""
_MOST_AT_ONCE = 16
"""Requests taken by one script, each with up to 960 KB of audio."""
_IN_HAND_S = 10.0
"""How long a worker that stops waits for the answers to what it has in hand."""

_LANES = {LiveKind.FINAL: Lane.FINAL, LiveKind.PARTIAL: Lane.PARTIAL}
_KINDS = (LiveKind.FINAL, LiveKind.PARTIAL)


@dataclass(frozen=True, slots=True)
class _Taken:
    ask: Ask
    at: float = field(default_factory=time.monotonic)


class LiveTaker:
    """Takes requests for one model and answers them.

    A ticket that was popped while the device became busy goes back, at once, so that an idle worker
    gets it. A model that was unloaded is loaded when a ticket waits, which other workers may pop
    meanwhile. Once the worker is told to stop nothing is taken, and what is in hand is answered.
    """

    def __init__(
        self, settings: Settings, worker: str, model: Model, resident: ResidentModel
    ) -> None:
        """Start taking."""
        self._worker, self._model, self._resident = worker, model, resident
        self._queue = model_queue(model.id)
        self._hands = Hands()
        self._beats = Beats(settings, worker, model.id, resident, self._hands)
        self._answers = Answers(settings, self._hands)
        self._redis = keys.connect(settings, pops=True)
        self._take_script = self._redis.register_script(keys.TAKE)
        self._lists = [keys.tickets(model.id, kind) for kind in _KINDS]
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="live-taker", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more, and send the answers to what is in hand; the model must still be there."""
        self._closing = True
        self._thread.join()
        if not self._hands.await_empty(_IN_HAND_S):
            log.warning("%d live requests are left to other workers", len(self._hands.ids()))
        self._answers.close()
        self._beats.close()

    def _is_stopping(self) -> bool:
        return self._closing or drain.has_begun()

    def _takes_nothing(self) -> bool:
        return self._closing or drain.claims_nothing(self._queue)

    def _run(self) -> None:
        while not self._is_stopping():
            try:
                if drain.claims_nothing(self._queue):
                    time.sleep(_LOOK_S)
                elif not self._resident.is_loaded:
                    self._rouse()
                elif self._resident.live_room(_LOOK_S):
                    self._take()
            except WorkerStopping as error:
                log.warning("%s: no live request is taken", error)
                time.sleep(_LOOK_S)
            except redis.RedisError as error:  # the beats say so in the log
                log.debug("no live request is taken: %s", error)
                time.sleep(_AWAY_S)
            except Exception:  # a bug must not end the thread
                log.exception("unexpected error: no live request is taken")
                time.sleep(_AWAY_S)

    def _rouse(self) -> None:
        """Load the model if a ticket waits, as that of a session that begins does."""
        if any(map(self._redis.llen, self._lists)):
            with self._resident.use():
                return
        time.sleep(_ROUSE_S)

    def _take(self) -> None:
        """Wait for a ticket; take its request, and as many more as the device has room for."""
        popped = self._redis.blpop(self._lists, timeout=keys.POP_S)
        if popped is None:
            return
        key, ticket = map(_bytes, popped)
        if not self._resident.is_loaded or self._takes_nothing():
            self._redis.lpush(key, ticket)
            return
        with self._resident.use() as batcher:
            self._take_with(batcher, key, ticket)

    def _take_with(self, batcher: Batcher, key: bytes, ticket: bytes) -> None:
        room = min(batcher.live_room(), _MOST_AT_ONCE)
        if not room:
            self._redis.lpush(key, ticket)
            return
        slots = [keys.slots(kind) for kind in _KINDS]
        number = 1 + self._lists.index(key.decode())
        found = self._take_script(keys=self._lists, args=[room, *slots, ticket, number])
        taken = []
        for header, pcm in zip(found[::2], found[1::2], strict=True):
            try:
                ask = decode_ask(header, pcm)
            except (ValueError, KeyError, TypeError):
                log.exception("a live request of another version is dropped")
                continue
            if self._hands.take(ask.request.id):
                taken.append(_Taken(ask))
        self._beats.send()
        for each in taken:
            self._hear(batcher, each)

    def _hear(self, batcher: Batcher, taken: _Taken) -> None:
        """Hand a request to the batcher."""
        request = taken.ask.request
        try:
            future = batcher.submit(
                samples_of(request.pcm),
                _options(self._model, request),
                lane=_LANES[request.kind],
                first=taken.ask.first,
                alone=self._beats.suspecting(request.id) if taken.ask.alone else None,
            )
        except Exception as error:  # noqa: BLE001 - the answer says so
            self._fail(taken, error)
        else:
            future.add_done_callback(lambda done: self._heard(taken, done))

    def _heard(self, taken: _Taken, done: Future[Inference]) -> None:
        """Answer a request; on a thread of the batcher."""
        if error := done.exception():
            assert isinstance(error, Exception)
            self._fail(taken, error)
            return
        inference = done.result()
        # What follows the first call is the device's time, too: a text that is decoded again.
        since_call_s = time.monotonic() - taken.at - inference.batch_wait_s
        answer = LiveAnswer(
            taken.ask.request.id,
            inference.hypothesis,
            inference_ms=round(1000 * inference.inference_s, 1),
            batch_size=inference.batch_size,
            worker=self._worker,
        )
        self._answer(taken, Reply(answer, round(1000 * max(0.0, since_call_s), 1)), "heard")

    def _fail(self, taken: _Taken, error: Exception) -> None:
        request = taken.ask.request
        if isinstance(error, EngineFailed):
            restart(error)
            if request.kind is LiveKind.FINAL:
                self._hands.leave(request.id)
                return
        if isinstance(error, LonghandError):
            log.warning("a live request failed: %s", error)
        else:
            log.error("a live request met an unexpected error", exc_info=error)
        code = error.code if isinstance(error, LonghandError) else InternalError.code
        self._answer(taken, Reply(LiveAnswer(request.id, None, code, worker=self._worker)), code)

    def _answer(self, taken: _Taken, reply: Reply, outcome: str) -> None:
        request = taken.ask.request
        self._hands.note_answer(request.id, request.kind)
        metrics.LIVE_REQUESTS.labels(request.kind, outcome).inc()
        metrics.LIVE_S.labels(request.kind).observe(time.monotonic() - taken.at)
        self._answers.put(request.id, taken.ask.api, encode_reply(reply))


def _bytes(value: bytes | str) -> bytes:
    """Return what the client's types allow to be a string, too; without ``decode_responses``."""
    assert isinstance(value, bytes)
    return value


def _options(model: Model, request: LiveRequest) -> DecodeOptions:
    """Return how a request is to be decoded: as a job's chunks are, so that they share calls.

    Raises:
        UnsupportedLanguage, UnsupportedOption: the model cannot do that.
    """
    language = request.language or model.only_language
    if language is not None and not model.speaks(language):
        raise UnsupportedLanguage(f"model '{model.id}' does not speak '{language}'")
    if request.task not in ("transcribe", "translate"):
        raise UnsupportedOption(f"unknown task '{request.task}'")
    if request.task == "translate" and not model.translates:
        raise UnsupportedOption(f"model '{model.id}' does not translate")
    return DecodeOptions(
        language=language,
        task="translate" if request.task == "translate" else "transcribe",
        prompt=request.prompt if model.takes_prompt else None,
        hotwords=request.hotwords if model.takes_prompt else None,
        beam_size=model.decode.beam_size,
    )
