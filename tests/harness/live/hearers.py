"""Model workers of live sessions for tests, in the API's own process."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from api.live import flow, incoming, watch
from api.live.hearer import LiveLoad
from harness.live.audio import answer_to
from shared.infra.settings import Settings
from shared.speech.live.requests import LiveAnswer, LiveKind, LiveRequest

IDLE = LiveLoad(workers=1, loaded=1, depth=0, partial_ms=100.0, final_ms=150.0, wait_ms=100.0)


class FastClock:
    """Time in which a connection counts how long its client has been silent."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def monotonic(self) -> float:
        return self._factor * time.monotonic()


def hasten(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """Have clients' silence count for ``factor`` times as long."""
    for module in (flow, watch):
        monkeypatch.setattr(module, "time", FastClock(factor))


class StoppedClock:
    """The same time, which passes when a test says so."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


def stop_clock(monkeypatch: pytest.MonkeyPatch) -> StoppedClock:
    """Have the time since clients sent something pass as the test says."""
    clock = StoppedClock()
    for module in (flow, incoming, watch):
        monkeypatch.setattr(module, "time", clock)
    return clock


@dataclass
class ToneHearer:
    """Reads tone words (``api.live.hearer.Hearer``)."""

    delay_s: float = 0.02
    now: LiveLoad = IDLE
    models: frozenset[str] = frozenset({"oracle"})
    error: Callable[[LiveRequest], str | None] = lambda request: None
    requests: list[LiveRequest] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    roused: list[str] = field(default_factory=list)
    silent: bool = False
    """It answers no more."""
    deaf_to: str | None = None
    """Language of requests that it does not answer."""

    def make(self, settings: Settings) -> "ToneHearer":
        return self

    async def start(self) -> None:
        self._answers = asyncio.Event()

    async def close(self) -> None:
        pass

    async def hear(self, request: LiveRequest) -> LiveAnswer:
        self.requests.append(request)
        await asyncio.sleep(self.delay_s)
        while self.silent or (self.deaf_to and request.language == self.deaf_to):
            await asyncio.sleep(0.01)
        if (error := self.error(request)) is not None:
            return LiveAnswer(request.id, None, error)
        return answer_to(request)

    async def rouse(self, model: str) -> None:
        self.roused.append(model)

    async def cancel(self, segment: str) -> None:
        self.cancelled.append(segment)

    def load(self, model: str) -> LiveLoad:
        if model in self.models:
            return self.now
        return LiveLoad(workers=0, loaded=0, depth=0, partial_ms=0.0, final_ms=0.0, wait_ms=0.0)

    @property
    def finals(self) -> list[LiveRequest]:
        return [request for request in self.requests if request.kind is LiveKind.FINAL]
