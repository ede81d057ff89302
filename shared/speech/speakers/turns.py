"""What a diarization is asked for, and what it answers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SpeakerHints:
    """What is known of the number of speakers; ``count`` is exact and stands alone."""

    min: int | None = None
    max: int | None = None
    count: int | None = None


@dataclass(frozen=True)
class Turn:
    """A stretch in which one speaker talks. Turns of several speakers may overlap."""

    start_s: float
    end_s: float
    speaker: int
    """From 0, in the order in which speakers are first heard."""
    overlap: bool = False
    """Somebody else talks during all of it."""
    confidence: float = 1.0
    """Of its speaker, in [0, 1]."""
