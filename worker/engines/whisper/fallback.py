"""Whisper's safety net: decode again, at a higher temperature, what came out wrong.

Whisper decodes greedily until it falls into a loop or guesses; then sampling gets it out. Of a
batch only the items that failed are decoded again, together. Nothing here knows a model: a decoder
is a function. The thresholds and temperatures are the defaults of OpenAI's whisper/transcribe.py;
the check for exact repetition is ours, for loops too short to show in the compression ratio.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MAX_COMPRESSION_RATIO = 2.4
"""Bytes of text per compressed byte above which it repeats itself."""
MIN_AVG_LOGPROB = -1.0
"""Mean log probability per token (natural logarithm) below which the model was guessing."""
MAX_NO_SPEECH_PROB = 0.6
"""Above it, a guess is taken for silence."""
LOOP_REPEATS = 4
"""So many times the same tokens in a row are suspected to be a loop: "no, no, no" is not."""
KEPT_RUN_TOKENS = 12
"""Repetitions of fewer tokens in all are never cut, as people do say "no, no, no, no, no"."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Text between two timestamps."""

    start_s: float | None
    """From the window's beginning; None where the model gave no time."""
    end_s: float | None
    tokens: tuple[int, ...]
    """Of the text alone, without timestamps."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one decoding of one item gave."""

    segments: tuple[Segment, ...]
    text: str
    avg_logprob: float
    """Mean natural logarithm of the tokens' probabilities, the end of text among them."""
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
    """What an item's attempts came to."""

    segments: tuple[Segment, ...]
    loop_suspected: bool


Decode = Callable[[Sequence[int], float], Sequence[Attempt]]
"""Decodes the items of these indices at a temperature, one attempt each, in their order."""


def decode_with_fallback(n_items: int, decode: Decode) -> list[Outcome]:
    """Decode items 0 to n_items - 1, those that fail the checks again at the next temperature.

    An item passes if it neither repeats itself nor was guessed, or if it is silence: then it has no
    segments. If all temperatures fail, the likeliest attempt is taken, one without a loop before
    one with. A loop that is left is cut to its first occurrence, and the outcome says so.
    """
    attempts: list[list[Attempt]] = [[] for _ in range(n_items)]
    failing = list(range(n_items))
    for temperature in TEMPERATURES:
        if not failing:
            break
        for item, attempt in zip(failing, decode(failing, temperature), strict=True):
            attempts[item].append(attempt)
        failing = [item for item in failing if not _passes(attempts[item][-1])]
    return [_settle(tries) for tries in attempts]


def compression_ratio(text: str) -> float:
    """Return how many bytes of the text zlib puts into one."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


class Loop(NamedTuple):
    """Tokens [start, end) are one period, again and again; the last time perhaps cut short."""

    start: int
    end: int
    period: int


def find_loop(tokens: Sequence[int], min_repeats: int, min_tokens: int = 0) -> Loop | None:
    """Return the longest stretch that repeats its first ``period`` tokens, or None.

    Args:
        tokens: shape (n,).
        min_repeats: how many whole periods it must have.
        min_tokens: how many tokens it must have.
    """
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


def _settle(attempts: Sequence[Attempt]) -> Outcome:
    """Take the last attempt if it passed, or else the best."""
    last = attempts[-1]
    if _passes(last):
        return Outcome(() if last.is_silent else last.segments, loop_suspected=False)
    best = max(attempts, key=lambda attempt: (not attempt.is_repetitive, attempt.avg_logprob))
    return Outcome(_cut_loops(best.segments), best.is_repetitive)


def _cut_loops(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Leave the first occurrence of each repeated stretch; segments left empty are dropped."""
    tokens = [(token, i) for i, segment in enumerate(segments) for token in segment.tokens]
    while loop := find_loop([token for token, _ in tokens], LOOP_REPEATS, KEPT_RUN_TOKENS):
        # Where text goes on after the loop, the period's beginning may belong to that text.
        rest = (loop.end - loop.start) % loop.period if loop.end < len(tokens) else 0
        del tokens[loop.start + loop.period : loop.end - rest]
    left = (tuple(token for token, at in tokens if at == i) for i in range(len(segments)))
    return tuple(
        replace(segment, tokens=kept) for segment, kept in zip(segments, left, strict=True) if kept
    )
