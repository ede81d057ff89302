"""Spans of speech, for those who do not hold the audio itself, which needs numpy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A span of speech: samples [start, end) of the original timeline."""

    start: int
    end: int


def spans_to_json(spans: Iterable[Span]) -> list[list[int]]:
    """Return spans as pairs of integers."""
    return [[span.start, span.end] for span in spans]


def spans_from_json(pairs: Iterable[Sequence[int]]) -> tuple[Span, ...]:
    """Return the spans that ``spans_to_json`` wrote."""
    return tuple(Span(start, end) for start, end in pairs)
