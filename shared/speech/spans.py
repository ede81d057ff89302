"""Spans of speech, for those who do not hold the audio itself, which needs numpy."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A span of speech: samples [start, end) of the original timeline."""

    start: int
    end: int
