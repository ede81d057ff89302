"""The interface through which live sessions reach the model workers."""

from dataclasses import dataclass
from typing import Protocol

from shared.speech.live.requests import LiveAnswer, LiveRequest

SUPERSEDED = "superseded"
"""Error of a request that a newer one replaced before a worker took it."""


@dataclass(frozen=True, slots=True)
class LiveLoad:
    """How busy the workers of one model are."""

    workers: int
    """Alive, and taking live requests."""
    loaded: int
    """Those of them whose model is in memory. While there are none, the times below are 0: how long
    an answer takes is not known before one has loaded its model."""
    depth: int
    """Live requests that no worker has taken."""
    partial_ms: float
    """Mean time from sending a partial request to its answer."""
    final_ms: float
    """The same for final requests."""
    wait_ms: float
    """Estimated time from sending a request now to its answer."""


class Hearer(Protocol):
    """Sends requests to model workers. For use on one event loop."""

    async def start(self) -> None:
        """Connect; called before any request."""
        ...

    async def close(self) -> None:
        """Answer what is under way with an error, and disconnect."""
        ...

    async def hear(self, request: LiveRequest) -> LiveAnswer:
        """Return the answer. Its ``error`` says why a request could not be answered.

        A request that a newer one replaces is answered at once, with the error ``SUPERSEDED``.
        Raises nothing but ``CancelledError``.
        """
        ...

    async def rouse(self, model: str) -> None:
        """Have a worker load the model, ahead of the first request. Raises nothing of its own."""
        ...

    async def cancel(self, segment: str) -> None:
        """Drop the segment's requests that no worker has taken."""
        ...

    def load(self, model: str) -> LiveLoad:
        """Return how busy the model's workers are, by their latest beats."""
        ...
