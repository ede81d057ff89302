"""The thread that sends answers to the API processes that wait for them."""

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass

import redis

from shared.infra.background import Background
from shared.infra.settings import Settings
from shared.queue.live import keys
from worker.live.hands import Hands

log = logging.getLogger(__name__)

_AGAIN_S = 0.1
_KEEP_S = keys.FINAL_TTL_S
"""How long an answer is kept while Redis is away; its request is sent again meanwhile."""


@dataclass(frozen=True, slots=True)
class _Answer:
    request: str
    api: str
    data: bytes
    until: float


class Answers:
    """Sends answers, and keeps them while Redis is away. Any thread may call."""

    def __init__(self, settings: Settings, hands: Hands) -> None:
        """Start the thread."""
        self._redis = keys.connect(settings)
        self._hands = hands
        self._unsent: deque[_Answer] = deque()
        self._lock = threading.Lock()
        self._thread = Background("live-answers", self._send)

    def put(self, request: str, api: str, data: bytes) -> None:
        """Have an answer sent; returns at once."""
        with self._lock:
            self._unsent.append(_Answer(request, api, data, time.monotonic() + _KEEP_S))
        self._thread.ring()

    def close(self) -> None:
        """Send what there is, if Redis can be reached."""
        self._thread.close()

    def _send(self) -> float | None:
        with self._lock:
            batch = [*self._unsent]
        if not batch:
            return None
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                for answer in batch:
                    pipeline.rpush(keys.replies(answer.api), answer.data)
                    pipeline.expire(keys.replies(answer.api), keys.REPLIES_TTL_S)
                pipeline.execute()
        except redis.RedisError as error:
            log.debug("answers wait for Redis: %s", error)
            late = [answer for answer in batch if answer.until <= time.monotonic()]
        else:
            late = batch
        with self._lock:
            for answer in late:
                self._unsent.remove(answer)
        for answer in late:
            self._hands.drop(answer.request)
        return _AGAIN_S if self._unsent else None
