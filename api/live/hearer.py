"""Who hears the requests of live sessions: the model workers, seen from here."""

from dataclasses import dataclass
from typing import Protocol

from shared.infra.errors import NoWorker
from shared.infra.settings import Settings
from shared.speech.live.requests import LiveAnswer, LiveRequest

SUPERSEDED = "superseded"
"""Error of an answer to a request that a newer one has replaced before a worker took it."""


@dataclass(frozen=True, slots=True)
class LiveLoad:
    """How busy the workers of one model are."""

    workers: int
    """Alive, and taking live requests."""
    depth: int
    """Live requests that no worker has taken."""
    partial_ms: float
    """Mean time from sending a partial request to its answer."""
    final_ms: float
    """The same for final requests."""
    wait_ms: float
    """Estimated time from sending a request now to its answer."""


class Hearer(Protocol):
    """Has model workers answer requests. For use on one event loop."""

    async def start(self) -> None:
        """Connect; called before any request."""
        ...

    async def close(self) -> None:
        """Answer what is under way with an error, and disconnect."""
        ...

    async def hear(self, request: LiveRequest) -> LiveAnswer:
        """Return the answer; what cannot be answered has an ``error``.

        A request that a newer one replaces is answered at once, with the error ``SUPERSEDED``.
        Raises nothing but ``CancelledError``.
        """
        ...

    async def cancel(self, segment: str) -> None:
        """Drop the segment's requests that no worker has taken."""
        ...

    def load(self, model: str) -> LiveLoad:
        """Return how busy the model's workers are, from what was heard of them last."""
        ...


class NoWorkers:
    """Hears nothing: no worker takes live requests."""

    def __init__(self, settings: Settings) -> None:
        """The settings name nobody."""

    async def start(self) -> None:
        """There is nothing to connect to."""

    async def close(self) -> None:
        """Nothing is under way."""

    async def hear(self, request: LiveRequest) -> LiveAnswer:
        """Return an error."""
        return LiveAnswer(request.id, None, error=NoWorker.code)

    async def cancel(self, segment: str) -> None:
        """Nothing is under way."""

    def load(self, model: str) -> LiveLoad:  # noqa: ARG002
        """Return that nobody is there."""
        return LiveLoad(workers=0, depth=0, partial_ms=0.0, final_ms=0.0, wait_ms=0.0)
