"""The voices of a stretch of audio, as a diarizer hears them one by one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Voice:
    """Somebody who talks in a stretch of audio."""

    embedding: tuple[float, ...]
    """Of unit length; those of one speaker are alike (cosine)."""
    alone_s: float
    """How long they talk while nobody else does."""
    turns: tuple[tuple[float, float], ...]
    """When they talk: starts and ends in seconds from the audio's first sample."""
