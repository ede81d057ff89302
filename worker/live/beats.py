"""The thread that tells the API which worker lives, what it has in hand, and how busy it is."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import redis

from shared.infra.background import Background
from shared.infra.settings import Settings
from shared.queue.live import keys
from shared.queue.live.wire import Beat, decode_beat, encode_beat
from shared.speech.live.requests import LiveKind
from shared.store.queues import model_queue
from worker.live.hands import Hands
from worker.process import drain

log = logging.getLogger(__name__)


class Device(Protocol):
    """What hears the requests, as beats see it; a model is one."""

    @property
    def is_loaded(self) -> bool:
        """Whether it hears them at once, and has no model to load first."""
        ...

    def live_capacity(self) -> int:
        """Return how many live requests are inferred at once."""
        ...

    def busy_s(self) -> float:
        """Return the time until it can begin with another one."""
        ...

    def note_speech(self) -> None:
        """Somebody speaks, and other calls are to be short."""
        ...

    def reserve(self, *, is_reserved: bool) -> None:
        """Say whether this worker is left to those who speak."""
        ...


class Beats:
    """Sends a beat four times a second, and when there is news.

    It also asks whether somebody speaks to the model by way of another worker, as calls are kept
    short then, and whether other workers are reserved for those who speak.
    """

    def __init__(
        self, settings: Settings, worker: str, model: str, device: Device, hands: Hands
    ) -> None:
        """Begin to beat."""
        self._redis = keys.connect(settings)
        self._worker, self._model, self._queue = worker, model, model_queue(model)
        self._device, self._hands = device, hands
        self._n_reserved = settings.live_reserve
        self._is_away = False
        self._sending = threading.Lock()
        """A beat must not take the place of a newer one."""
        self._thread = Background("live-beats", self._beat)
        self._thread.ring()

    def send(self) -> None:
        """Send a beat now: before requests are heard that could be this worker's end."""
        with self._sending:
            self._send()

    @contextmanager
    def suspecting(self, request: str) -> Iterator[None]:
        """Name a request as suspect while the engine hears it alone, before it can do harm."""
        self._hands.suspect = request
        self.send()
        try:
            yield
        finally:
            self._hands.suspect = None
            self._thread.ring()

    def close(self) -> None:
        """Withdraw; what is still in hand is left to the last beat, which runs out."""
        self._thread.close()
        if self._hands.ids():
            return
        try:
            with self._redis.pipeline() as pipeline:
                pipeline.srem(keys.WORKERS, self._worker)
                pipeline.delete(keys.beat(self._worker))
                pipeline.execute()
        except redis.RedisError as error:
            log.debug("the last beat runs out: %s", error)

    def _beat(self) -> float:
        self.send()
        return keys.BEAT_S

    def _send(self) -> None:
        means_s = self._hands.means_s
        beat = Beat(
            self._worker,
            self._model,
            in_hand=self._hands.ids(),
            suspect=self._hands.suspect,
            capacity=self._device.live_capacity(),
            busy_ms=round(1000 * self._device.busy_s(), 1),
            partial_ms=round(1000 * means_s.get(LiveKind.PARTIAL, 0.0), 1),
            final_ms=round(1000 * means_s.get(LiveKind.FINAL, 0.0), 1),
            stopping=drain.claims_nothing(self._queue),
            loaded=self._device.is_loaded,
        )
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.set(
                    keys.beat(self._worker), encode_beat(beat), px=int(1000 * keys.BEAT_TTL_S)
                )
                pipeline.sadd(keys.WORKERS, self._worker)
                pipeline.exists(keys.speech(self._model))
                *_, somebody_speaks = pipeline.execute()
            if somebody_speaks and self._n_reserved:
                is_reserved = self._worker in self._reserved()
                self._device.reserve(is_reserved=is_reserved)
        except redis.RedisError as error:
            if not self._is_away:
                log.warning("no live requests: Redis cannot be reached: %s", error)
            self._is_away = True
            return
        self._is_away = False
        if somebody_speaks:
            self._device.note_speech()

    def _reserved(self) -> list[str]:
        """Return the workers that are left to those who speak: the first ones of the model."""
        workers = sorted(map(_text, self._redis.smembers(keys.WORKERS)))
        beats = []
        for data in self._redis.mget([keys.beat(worker) for worker in workers]):
            if isinstance(data, bytes):  # else its last beat has run out
                with suppress(ValueError, KeyError, TypeError):  # a worker of another version
                    beats.append(decode_beat(data))
        peers = (beat for beat in beats if beat.model == self._model and beat.loaded)
        return [beat.worker for beat in peers if not beat.stopping][: self._n_reserved]


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode()
