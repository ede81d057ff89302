"""Words out of CTC: what a network says frame by frame, read greedily. Numpy only.

A CTC network names one symbol per frame, or the blank: "nothing new here". The best path repeats a
symbol for as long as it lasts and puts a blank between two that are equal, so runs are merged first
and blanks dropped then (Graves et al. 2006, "Connectionist Temporal Classification", section 3.2).

Frame i covers samples [i, i + 1) times the network's stride. A word lasts from the beginning of its
first symbol's first frame to the end of its last symbol's last one. Networks emit symbols late and
shortly, so this is where a word was recognised rather than its full length. The same audio, cut
elsewhere, mostly gives the same times to within a frame.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.speech.audio import Samples
from shared.speech.chunks import SAMPLE_RATE, WordHypothesis

LogProbs = npt.NDArray[np.float32]
"""Natural logarithms of the posteriors, shape (n_frames, n_symbols)."""

MIN_SAMPLES = SAMPLE_RATE // 10
"""Shorter items cannot hold a word, and are too short for the features' mean and variance."""
SILENCE_PEAK = 1e-4
"""Peak below which an item is silence (-80 dBFS, 3 steps of 16-bit audio): features are brought to
equal loudness, so that a network would hear its dither as noise."""
LONGEST_GAP_S = 0.8
"""Between symbols of one word: our choice. In words of tests/models' networks at most 0.3 s lies
between two letters; before letters of a word cut off by the item's end, 0.9 s or more."""
END_S = 0.2
"""The last part of an item, where a word cut off may leave its letters: our choice."""


class Emission(NamedTuple):
    """A symbol of the best path: its text (a space begins a word), frames [start, end), and the
    logarithm of its posterior."""

    text: str
    start: int
    end: int
    log_prob: float


def may_hold_words(samples: Samples) -> bool:
    """Whether an item is long and loud enough to ask a network about it."""
    return len(samples) >= MIN_SAMPLES and float(np.abs(samples).max()) >= SILENCE_PEAK


def best_path(log_probs: LogProbs, symbols: Sequence[str], blank: int) -> Iterator[Emission]:
    """Read the likeliest symbol of every frame, runs merged and blanks dropped.

    The posterior of a symbol is its largest within its run.

    Args:
        log_probs: shape (n_frames, n_symbols).
        symbols: their texts; a space begins a word, and an empty one says nothing.
        blank: the index of the blank.
    """
    if not len(log_probs):
        return
    best = log_probs.argmax(axis=1)
    edges = np.flatnonzero(np.diff(best)) + 1
    for start, end in zip([0, *edges], [*edges, len(best)], strict=True):
        symbol = int(best[start])
        if symbol != blank and symbols[symbol]:
            peak = float(log_probs[start:end, symbol].max())
            yield Emission(symbols[symbol], int(start), int(end), peak)


def join_words(
    emissions: Iterable[Emission], frame_samples: int, n_samples: int
) -> tuple[WordHypothesis, ...]:
    """Join symbols into words.

    A word's confidence is the geometric mean of its symbols' posteriors, so that long words are not
    doubted for their length alone.

    Where an item ends within a word, a network may name a letter of it and no space before. So a
    symbol at the end and long after the word before it begins another word: else that one would
    seem to last to the end, and its middle to lie in the next chunk.

    Args:
        emissions: in the order of their frames.
        frame_samples: the network's stride.
        n_samples: the length of the item, past which no word ends.
    """
    longest_gap = LONGEST_GAP_S * SAMPLE_RATE / frame_samples
    end_start = (n_samples - END_S * SAMPLE_RATE) / frame_samples
    words: list[list[Emission]] = [[]]
    for emission in emissions:
        cut_off = (
            words[-1]
            and emission.start - words[-1][-1].end > longest_gap
            and emission.start >= end_start
        )
        if cut_off or emission.text.startswith(" "):
            words.append([])
        if emission.text.strip():
            words[-1].append(emission)
    return tuple(_word(word, frame_samples, n_samples) for word in words if word)


def _word(symbols: Sequence[Emission], frame_samples: int, n_samples: int) -> WordHypothesis:
    mean_log_prob = sum(symbol.log_prob for symbol in symbols) / len(symbols)
    return WordHypothesis(
        text="".join(symbol.text.strip() for symbol in symbols),
        start=min(symbols[0].start * frame_samples, n_samples),
        end=min(symbols[-1].end * frame_samples, n_samples),
        confidence=min(1.0, math.exp(mean_log_prob)),
    )
