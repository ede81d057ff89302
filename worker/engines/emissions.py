"""Words from the symbols that a network emits frame by frame: letters or word pieces.

Frame i covers samples [i, i + 1) times the network's stride. A word lasts from its first symbol's
first frame to its last symbol's last frame. Networks emit symbols late and briefly, so these times
say where a word was recognised rather than how long it lasts. If the same audio is cut elsewhere,
most times stay the same to within a frame.
"""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import WordHypothesis
from shared.speech.text.scripts import begins_word
from worker.engines.protocol import is_silent

MIN_SAMPLES = SAMPLE_RATE // 10
"""Shorter items hold no word, and are too short for the features' mean and variance."""
LONGEST_GAP_S = 0.8
"""Longest gap between symbols of one word. Within words of tests/models' networks gaps are 0.3 s at
most; before the letters of a word that the item's end cuts off they are 0.9 s or more."""
END_S = 0.2
"""Length of an item's end in which a word that is cut off may leave letters."""


class Emission(NamedTuple):
    """A symbol: its text (a space begins a word), its frames [start, end), and the logarithm of its
    posterior."""

    text: str
    start: int
    end: int
    log_prob: float


def may_hold_words(samples: Samples) -> bool:
    """Whether an item is long and loud enough to hold a word."""
    return len(samples) >= MIN_SAMPLES and not is_silent(samples)


def join_words(
    emissions: Iterable[Emission], frame_samples: int, n_samples: int
) -> tuple[WordHypothesis, ...]:
    """Join symbols into words.

    A word begins at a space, which stands before its text, and at each symbol of a script that is
    written without spaces.

    A word's confidence is the geometric mean of its symbols' posteriors, so long words have no
    lower one.

    If an item ends within a word, the network may emit a letter of it without a space before. So a
    symbol at the item's end and long after the last word begins a new word. Otherwise the last word
    would extend to the item's end, and its midpoint would lie in the next chunk.

    Punctuation belongs to the word before it but not to its time: a transducer often emits it in
    the pause after the sentence.

    A frame has ``frame_samples``, and no word ends after the item's ``n_samples``.
    """
    longest_gap = LONGEST_GAP_S * SAMPLE_RATE / frame_samples
    end_start = (n_samples - END_S * SAMPLE_RATE) / frame_samples
    words: list[tuple[str, list[Emission]]] = [("", [])]
    for emission in emissions:
        text, symbols = words[-1]
        bare = emission.text.strip()
        cut_off = (
            symbols
            and _is_spoken(emission)
            and emission.start - symbols[-1].end > longest_gap
            and emission.start >= end_start
        )
        if emission.text.startswith(" "):
            text, symbols = " ", []
        elif cut_off or (symbols and bare and begins_word(text, bare)):
            text, symbols = "", []
        else:
            words.pop()
        words.append((text + bare, [*symbols, emission] if bare else symbols))
    return tuple(_word(*word, frame_samples, n_samples) for word in words if word[1])


def _word(
    text: str, symbols: Sequence[Emission], frame_samples: int, n_samples: int
) -> WordHypothesis:
    spoken = [symbol for symbol in symbols if _is_spoken(symbol)] or symbols
    mean_log_prob = sum(symbol.log_prob for symbol in symbols) / len(symbols)
    return WordHypothesis(
        text=text,
        start=min(spoken[0].start * frame_samples, n_samples),
        end=min(spoken[-1].end * frame_samples, n_samples),
        confidence=min(1.0, math.exp(mean_log_prob)),
    )


def _is_spoken(emission: Emission) -> bool:
    """Whether a symbol has more than punctuation."""
    return any(unicodedata.category(character)[0] not in "PZ" for character in emission.text)
