"""An attempt to deliver a webhook event: what it sends, how it went, when the next one is due."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

RETRY_DELAYS_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 12_600, 12_600, 12_600)
"""Seconds from each failed attempt to the next, about 28 hours in all.

The first six are those of the example in the Standard Webhooks specification. Then a receiver that
was down for a night is tried every three and a half hours.
"""

MAX_ATTEMPTS = len(RETRY_DELAYS_S) + 1

JITTER = 0.1
"""Share by which each delay varies, so that what failed together is not retried together."""

LONGEST_RETRY_AFTER_S = 36_000
"""Upper bound of a receiver's ``Retry-After``: the longest delay of the schedule."""

TIMEOUT_S = 15.0
"""Of a whole attempt, from the look-up of the host to the status."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What an attempt sends, and its receiver."""

    url: str
    event_id: str
    headers: Mapping[str, str]
    """Beside those of every attempt."""
    body: Iterable[bytes]
    """JSON, in pieces; each iteration makes them anew."""
    n_bytes: int
    """Of the whole body."""
    method: Literal["POST", "PUT"] = "POST"


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt went."""

    status_code: int | None
    """None if there was no answer."""
    latency_ms: float
    error: str | None
    """One sentence for the receiver's owner; None if the event was delivered."""
    retry_after_s: float = 0.0
    """The least delay before the next attempt that the receiver asked for."""

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver took the event."""
        return self.error is None

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants no more events: 410 Gone."""
        return self.status_code == 410


def next_attempt_s(attempt_number: int, retry_after_s: float) -> tuple[float, float]:
    """Return the least and the most seconds from a failed attempt to the next one.

    Attempts are numbered from 1; the last one has no next. ``retry_after_s``, which the receiver
    asked for, can only lengthen the delay.
    """
    delay_s = RETRY_DELAYS_S[attempt_number - 1]
    asked_s = min(retry_after_s, LONGEST_RETRY_AFTER_S)
    return max(delay_s * (1 - JITTER), asked_s), max(delay_s, asked_s) * (1 + JITTER)
