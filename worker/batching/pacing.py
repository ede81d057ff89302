"""When calls may begin while somebody speaks: what partials and chunks of jobs leave each other.

Times are seconds of the schedule's clock.
"""

import math

SPEECH_S = 1.5
"""How long after a sign of it somebody still counts as speaking: live sessions send a partial every
300 to 1,200 ms."""
PARTIALS_APART_S = 0.175
"""Calls of partials start at least so far apart while chunks wait."""
PARTIALS_SHARE = 0.75
"""The most of the device's time that calls of partials have while chunks wait."""
CHUNK_AGE_S = 10.0
"""How long chunks wait at most for the beginning of a call, however many people speak."""


class Pacing:
    """Remembers who speaks, when partials may be next, and for how long chunks have waited."""

    def __init__(self) -> None:
        """Begin in silence."""
        self._speaking_until = -math.inf
        self.partials_from = -math.inf
        """When the next call of partials may begin, if chunks wait."""
        self._chunks_since = 0.0
        """When chunks were in a call last, or began to wait."""

    def note_speech(self, now: float) -> None:
        """Somebody speaks."""
        self._speaking_until = max(self._speaking_until, now + SPEECH_S)

    def note_chunks(self, now: float) -> None:
        """Chunks are in a call, or begin to wait."""
        self._chunks_since = now

    def note_partials(self, began: float, duration_s: float) -> None:
        """A call of partials began that takes so long; the next one keeps its distance."""
        self.partials_from = began + max(PARTIALS_APART_S, duration_s / PARTIALS_SHARE)

    def is_anybody_speaking(self, now: float) -> bool:
        """Return whether calls must be short."""
        return now < self._speaking_until

    def are_chunks_overdue(self, now: float) -> bool:
        """Return whether chunks that wait go first once."""
        return now >= self._chunks_since + CHUNK_AGE_S

    @property
    def long_chunks_from(self) -> float:
        """When chunks may begin that would hold up somebody for long."""
        return min(self._speaking_until, self._chunks_since + CHUNK_AGE_S)
