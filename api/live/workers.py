"""What an API process knows of the workers that take live requests: their latest beats."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from api.live.hearer import LiveLoad
from shared.queue.live import keys
from shared.queue.live.wire import Beat, decode_beat
from shared.speech.live.requests import LiveKind

log = logging.getLogger(__name__)

LOOK_S = 0.25
"""How often the beats are read."""
_BLIND_S = 2.0
"""Beats that were read longer ago say nothing about who is there."""


@dataclass(frozen=True, slots=True)
class _Seen:
    beat: Beat
    left_ms: int
    """How long the beat still counted when it was read."""

    def is_silent(self, since_s: float) -> bool:
        """Return whether the worker has missed beats; this one was read ``since_s`` ago."""
        return keys.BEAT_TTL_S - self.left_ms / 1000 + since_s > keys.SILENT_S


class Workers:
    """The workers by their last beats, and how many requests wait for each model."""

    def __init__(self, redis: Any, clock: Callable[[], float] = time.monotonic) -> None:
        """``redis`` is an asyncio client, whose calls have timeouts."""
        self._redis = redis
        self._clock = clock
        self._seen: Mapping[str, _Seen] = {}
        self._depths: Mapping[str, int] = {}
        self._looked_at = -_BLIND_S

    async def look(self) -> list[Beat]:
        """Read all beats; return the last ones of workers that have died since the last look.

        Raises:
            redis.RedisError, OSError: Redis cannot be reached.
        """
        known = self._seen
        found = sorted(name.decode() for name in await self._redis.smembers(keys.WORKERS))
        async with self._redis.pipeline(transaction=False) as pipeline:
            for name in found:
                pipeline.get(keys.beat(name))
                pipeline.pttl(keys.beat(name))
            told = await pipeline.execute() if found else []
        seen, gone = {}, []
        for name, data, left_ms in zip(found, told[::2], told[1::2], strict=True):
            if data is None:
                gone.append(name)
                continue
            try:
                seen[name] = _Seen(decode_beat(data), left_ms)
            except (ValueError, KeyError, TypeError) as error:
                log.warning("worker %s is of another version: %s", name, error)
        models = {each.beat.model for each in seen.values()}
        self._depths = await self._count({*self._depths, *models})
        if gone:
            await self._redis.srem(keys.WORKERS, *gone)
        self._seen, self._looked_at = seen, self._clock()
        return [known[name].beat for name in gone if name in known]

    def forget(self) -> None:
        """Forget all workers: Redis has lost its data, so a missing beat is no death."""
        self._seen = {}

    def silent(self, request: str) -> list[Beat]:
        """Return the last beats of workers that hold the request and have missed beats."""
        since_s = self._clock() - self._looked_at
        holders = (seen for seen in self._seen.values() if request in seen.beat.in_hand)
        return [seen.beat for seen in holders if seen.is_silent(since_s)]

    def is_served(self, model: str) -> bool:
        """Return whether a worker of the model has missed no beats."""
        since_s = self._clock() - self._looked_at
        return any(
            seen.beat.model == model and not seen.beat.stopping and not seen.is_silent(since_s)
            for seen in self._seen.values()
        )

    def mean_s(self, model: str, kind: LiveKind) -> float:
        """Return the workers' mean time for a request of this kind; 0: there was none yet."""
        times_ms = [
            beat.final_ms if kind is LiveKind.FINAL else beat.partial_ms
            for beat in self._loaded(model)
        ]
        return _mean(times_ms) / 1000

    def load(self, model: str, means_ms: Mapping[LiveKind, float]) -> LiveLoad:
        """Return how busy a model's workers are; ``means_ms``: from request to answer."""
        depth = self._depths.get(model, 0)
        n_workers, beats = len(self._of(model)), self._loaded(model)
        if not beats:
            return LiveLoad(n_workers, 0, depth, 0.0, 0.0, 0.0)
        call_ms = _mean(each for beat in beats for each in (beat.partial_ms, beat.final_ms) if each)
        n_calls = -(-depth // max(1, sum(beat.capacity for beat in beats))) + 1
        wait_ms = min(beat.busy_ms for beat in beats) + n_calls * call_ms
        final_ms, partial_ms = means_ms[LiveKind.FINAL], means_ms[LiveKind.PARTIAL]
        return LiveLoad(n_workers, len(beats), depth, partial_ms, final_ms, wait_ms)

    def _of(self, model: str) -> list[Beat]:
        """Return the beats of the model's workers that take requests."""
        if self._clock() - self._looked_at > _BLIND_S:
            return []
        beats = (seen.beat for seen in self._seen.values())
        return [beat for beat in beats if beat.model == model and not beat.stopping]

    def _loaded(self, model: str) -> list[Beat]:
        """Return the beats of those that need not load it first: only their times count."""
        return [beat for beat in self._of(model) if beat.loaded]

    async def _count(self, models: Collection[str]) -> dict[str, int]:
        if not models:
            return {}
        async with self._redis.pipeline(transaction=False) as pipeline:
            for model in models:
                for kind in LiveKind:
                    pipeline.llen(keys.tickets(model, kind))
            lengths = await pipeline.execute()
        n = len(LiveKind)
        return {model: sum(lengths[n * i : n * (i + 1)]) for i, model in enumerate(models)}


def _mean(values: Iterable[float]) -> float:
    present = [*values]
    return sum(present) / len(present) if present else 0.0
