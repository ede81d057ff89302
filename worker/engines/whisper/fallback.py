"""Temperature fallback: items that fail the checks are decoded again at a higher temperature.

Whisper may loop or guess; sampling then often helps. Thresholds and temperatures are the defaults
of OpenAI's whisper/transcribe.py. The check for exact repetition is ours. It finds loops that are
too short to show in the compression ratio. Nothing here depends on a model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from shared.speech.text.repetition import compression_ratio

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MAX_COMPRESSION_RATIO = 2.4
"""A text with more bytes per compressed byte repeats itself."""
MIN_AVG_LOGPROB = -1.0
"""The model was guessing if the tokens' mean natural log probability is lower."""
MAX_NO_SPEECH_PROB = 0.6
"""A guess counts as silence if the probability of no speech is higher."""
LOOP_REPEATS = 4
"""Four repetitions in a row are a suspected loop. "No, no, no" is none."""
KEPT_RUN_TOKENS = 12
"""Repetitions of fewer tokens are kept: people do say "no, no, no, no, no"."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Text between two timestamps."""

    start_s: float | None
    """Seconds from the window's start; None if the model gave no time."""
    end_s: float | None
    tokens: tuple[int, ...]
    """Text tokens, without timestamps."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The result of decoding one item once."""

    segments: tuple[Segment, ...]
    text: str
    avg_logprob: float
    """Mean natural logarithm of the tokens' probabilities, with the end of text."""
    no_speech_prob: float
    """Probability, in [0, 1], that the window holds no speech."""

    @property
    def is_silent(self) -> bool:
        return self.no_speech_prob > MAX_NO_SPEECH_PROB and self.avg_logprob < MIN_AVG_LOGPROB

    @property
    def is_repetitive(self) -> bool:
        tokens = [token for segment in self.segments for token in segment.tokens]
        return (
            compression_ratio(self.text) > MAX_COMPRESSION_RATIO
            or find_loop(tokens, LOOP_REPEATS) is not None
        )


class Outcome(NamedTuple):
    """The result of all attempts of an item."""

    segments: tuple[Segment, ...]
    loop_suspected: bool
    chosen: int = 0
    """Index of the attempt that it is of."""


def settle(attempts: Sequence[Attempt]) -> Outcome | None:
    """Return the outcome of an item's attempts, or None if it is to be decoded once more.

    Attempt i was made at ``TEMPERATURES[i]``; there is at least one.

    An attempt passes if it neither repeats itself nor was guessed. Silence passes too, and has no
    segments. If no attempt passes, the likeliest one without a loop is taken. If all loop, the
    likeliest is taken and its loop is cut to the first occurrence.
    """
    last = attempts[-1]
    if _passes(last):
        segments = () if last.is_silent else last.segments
        return Outcome(segments, loop_suspected=False, chosen=len(attempts) - 1)
    if len(attempts) < len(TEMPERATURES):
        return None
    best = max(attempts, key=lambda attempt: (not attempt.is_repetitive, attempt.avg_logprob))
    return Outcome(_cut_loops(best.segments), best.is_repetitive, attempts.index(best))


class Loop(NamedTuple):
    """Tokens [start, end) repeat their first ``period`` tokens. The last repetition may be cut."""

    start: int
    end: int
    period: int


def find_loop(tokens: Sequence[int], min_repeats: int, min_tokens: int = 0) -> Loop | None:
    """Return the longest loop of at least so many whole periods and so many tokens, or None."""
    ids = np.asarray(tokens)
    longest: Loop | None = None
    for period in range(1, len(ids) // min_repeats + 1):
        same = np.concatenate(([False], ids[period:] == ids[:-period], [False]))
        edges = np.flatnonzero(same[1:] != same[:-1])
        for start, end in zip(edges[::2].tolist(), (edges[1::2] + period).tolist(), strict=True):
            needed = max(min_repeats * period, min_tokens)
            if needed <= end - start and (
                longest is None or end - start > longest.end - longest.start
            ):
                longest = Loop(start, end, period)
    return longest


def _passes(attempt: Attempt) -> bool:
    guessed = attempt.avg_logprob < MIN_AVG_LOGPROB
    return attempt.is_silent or not (guessed or attempt.is_repetitive)


def _cut_loops(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Keep the first occurrence of each repeated stretch; drop segments that are left empty."""
    tokens = [(token, i) for i, segment in enumerate(segments) for token in segment.tokens]
    while loop := find_loop([token for token, _ in tokens], LOOP_REPEATS, KEPT_RUN_TOKENS):
        # An incomplete last period may belong to the text after the loop.
        rest = (loop.end - loop.start) % loop.period if loop.end < len(tokens) else 0
        del tokens[loop.start + loop.period : loop.end - rest]
    left = (tuple(token for token, at in tokens if at == i) for i in range(len(segments)))
    return tuple(
        replace(segment, tokens=kept) for segment, kept in zip(segments, left, strict=True) if kept
    )
