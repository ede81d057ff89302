"""The times of Whisper's words, from the decoder's attention.

The method is that of OpenAI's whisper/timing.py. The decoder reads the finished text once more.
Dynamic time warping then aligns the text with the encoder's frames, by the attention of the
alignment heads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.hypothesis import WordHypothesis
from worker.engines.whisper.fallback import Segment
from worker.engines.whisper.vocabulary import TIMESTAMP_S, Vocabulary

LONGEST_MEDIAN_S = 0.7
"""Words are compared with the median word length, but never with more than 0.7 s."""
LONG_WORD = 2
"""If a word after a pause is longer than two medians, the pause is part of it."""
PAUSE = 4
"""If a word ends more than four medians after the last one, there is a pause before it."""
TIMESTAMP_TOLERANCE_S = 0.5
"""A segment's timestamp replaces the alignment if they differ by more."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """Times and probabilities of an item's text tokens."""

    starts_s: npt.NDArray[np.float64]
    """Shape (n_tokens + 1,): the start of each token and the end of the text; non-decreasing."""
    probabilities: npt.NDArray[np.float64]
    """Shape (n_tokens,), in [0, 1]."""


def path_starts(score: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Return the column at which each row begins on the best monotone path: (n_rows,), from 0.

    This is dynamic time warping with steps right, down and diagonal, all of equal weight:
    D[i, j] = c[i, j] + min(D[i-1, j-1], D[i-1, j], D[i, j-1]). Unrolled along j, a row is a running
    minimum of D[i-1] less the sums of c, so it takes array operations only.

    ``score``, of shape (n_rows, n_columns), is high where a row and a column match.
    """
    n_rows, n_columns = score.shape
    cost = -score.astype(np.float64)
    total = np.full((n_rows + 1, n_columns + 1), np.inf)
    total[0, 0] = 0.0
    for i in range(n_rows):
        sums = np.cumsum(cost[i])
        entry = np.minimum(total[i, :-1], total[i, 1:])
        total[i + 1, 1:] = sums + np.minimum.accumulate(entry - (sums - cost[i]))
    starts = np.zeros(n_rows, dtype=np.int64)
    i, j = n_rows, n_columns
    while i > 0:
        diagonal, down, right = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        starts[i - 1] = j - 1
        if right <= min(diagonal, down):
            j -= 1
        else:
            i -= 1
            j -= diagonal < down
    return starts


def time_words(
    segments: Sequence[Segment],
    alignment: Alignment,
    vocabulary: Vocabulary,
    n_samples: int,
) -> tuple[WordHypothesis, ...]:
    """Return an item's words with times in its samples.

    A word's confidence is the mean of its tokens' probabilities, as in OpenAI's code and in
    faster-whisper.
    """
    timed: list[list[_Word]] = []
    at = 0
    blank = ""
    blank_tokens: tuple[int, ...] = ()
    for segment in segments:
        words = []
        used = 0
        for text, n_tokens in vocabulary.split_words(segment.tokens):
            start_s, end_s = alignment.starts_s[at], alignment.starts_s[at + n_tokens]
            confidence = alignment.probabilities[at : at + n_tokens].mean()
            at += n_tokens
            used += n_tokens
            tokens = tuple(segment.tokens[used - n_tokens : used])
            if not text.strip():
                blank += text
                blank_tokens += tokens
                continue
            words.append(
                _Word(
                    blank + text,
                    float(start_s),
                    float(end_s),
                    float(confidence),
                    blank_tokens + tokens,
                )
            )
            blank, blank_tokens = "", ()
        timed.append(words)
    durations = [word.end_s - word.start_s for words in timed for word in words]
    spoken = [duration for duration in durations if duration > 0]
    median_s = min(float(np.median(spoken)), LONGEST_MEDIAN_S) if spoken else 0.0
    previous_end_s = 0.0
    for segment, words in zip(segments, timed, strict=True):
        if words:
            _correct(words, segment, median_s, previous_end_s)
            previous_end_s = words[-1].end_s
    return tuple(_in_samples((word for words in timed for word in words), n_samples))


@dataclass(slots=True)
class _Word:
    text: str
    start_s: float
    end_s: float
    confidence: float
    tokens: tuple[int, ...]


def _correct(
    words: Sequence[_Word], segment: Segment, median_s: float, previous_end_s: float
) -> None:
    """Move words into their segment, and remove the pause from its first word.

    The path gives every frame to some token, also in pauses. It may place words of one segment in
    the next.
    """
    first, start_s, end_s = words[0], segment.start_s, segment.end_s
    for word in words:
        if start_s is not None and word.start_s + TIMESTAMP_TOLERANCE_S < start_s:
            if word.end_s <= start_s:
                word.end_s = start_s + median_s
            word.start_s = max(0.0, min(word.end_s - median_s, start_s))
        if end_s is not None and word.end_s - TIMESTAMP_TOLERANCE_S > end_s:
            word.start_s = min(word.start_s, end_s - median_s)
            word.end_s = max(word.start_s + median_s, end_s)
    after_pause = first.end_s - previous_end_s > PAUSE * median_s
    if after_pause and first.end_s - first.start_s > LONG_WORD * median_s:
        first.start_s = first.end_s - LONG_WORD * median_s


def _in_samples(words: Iterator[_Word], n_samples: int) -> Iterator[WordHypothesis]:
    """Yield words with times in samples, non-decreasing and within the item.

    Whisper always hears 30 s, so a word may lie beyond a shorter item. Corrected times may
    decrease.
    """
    previous_end = 0
    for word in words:
        start = min(max(round(word.start_s * SAMPLE_RATE), previous_end), n_samples)
        end = min(max(round(word.end_s * SAMPLE_RATE), start), n_samples)
        previous_end = end
        confidence = min(1.0, max(0.0, word.confidence))
        yield WordHypothesis(word.text, start, end, confidence, word.tokens)


def align_tokens(starts: npt.NDArray[np.int64], probabilities: Sequence[float]) -> Alignment:
    """Return an ``Alignment``; ``starts`` are frames of the encoder's output, (n_tokens + 1,)."""
    starts_s = starts.astype(np.float64) * TIMESTAMP_S
    return Alignment(starts_s, np.asarray(probabilities, dtype=np.float64))
