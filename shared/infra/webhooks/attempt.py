"""One attempt to deliver an event: what it needs, how it went, and when the next one is due."""

from collections.abc import Sequence
from dataclasses import dataclass

RETRY_DELAYS_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 12_600, 12_600, 12_600)
"""Seconds from each failed attempt to the next, about 28 hours in all.

At first the delays of the Standard Webhooks specification's example; after its longest one, a
receiver that was down for a night is tried every three and a half hours.
"""

MAX_ATTEMPTS = len(RETRY_DELAYS_S) + 1

JITTER = 0.1
"""Each delay is up to this share shorter or longer, so that what failed together is not sent
together again."""

LONGEST_RETRY_AFTER_S = 36_000
"""The most that a receiver's ``Retry-After`` is obeyed: the longest delay of the schedule."""

TIMEOUT_S = 15.0
"""Of a whole attempt, from looking up the host to the status."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What an attempt sends, and where to."""

    url: str
    secrets: Sequence[str]
    event_id: str
    body: str
    timestamp: int
    """Seconds since 1970, by the database's clock."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt went."""

    status_code: int | None
    """None where there was no answer."""
    latency_ms: float
    error: str | None
    """One sentence, fit for the receiver's owner; None where the event was delivered."""
    retry_after_s: float = 0.0
    """The least delay before the next one, as the receiver asked."""

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver has taken the event."""
        return self.error is None

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants nothing any more: 410 Gone."""
        return self.status_code == 410


def next_attempt_s(attempt_number: int, retry_after_s: float) -> tuple[float, float]:
    """Return the least and the most seconds until the next attempt, after a failed one.

    Args:
        attempt_number: of the failed one, from 1, less than ``MAX_ATTEMPTS``.
        retry_after_s: what the receiver asked for; it may lengthen the delay, not shorten it.
    """
    delay_s = RETRY_DELAYS_S[attempt_number - 1]
    asked_s = min(retry_after_s, LONGEST_RETRY_AFTER_S)
    return max(delay_s * (1 - JITTER), asked_s), max(delay_s, asked_s) * (1 + JITTER)
