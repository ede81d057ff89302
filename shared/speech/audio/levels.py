"""Which parts of a chunk are loud enough to be speech."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.audio.spans import Span

FRAME_SAMPLES = SAMPLE_RATE * 20 // 1000
"""Levels are measured per 20 ms, on a grid that starts at the chunk's first sample."""

RANGE_DB = 35.0
"""Frames further below the loudest ones are background. Weak fricatives are some 30 dB below the
loudest vowels (Fletcher 1953)."""
ABOVE_FLOOR_DB = 6.0
"""Frames closer to the quietest ones are background. Steady noise varies by less than 6 dB."""
LOUD_PERCENTILE, FLOOR_PERCENTILE = 95, 5
"""Percentiles of the frames' levels that stand for the loudest and the quietest ones. Single bangs
and single gaps do not count."""

Frames = npt.NDArray[np.bool_]
"""Which frames have some property, shape (n_frames,). The last frame may be incomplete."""


def find_sound(samples: Samples, speech: Sequence[Span]) -> Frames:
    """Return which frames of a chunk stand out from its background.

    Spans of speech hold padding and short pauses. Only frames with sound count as speech here.

    Args:
        samples: shape (n_samples,).
        speech: where the voice activity detector found speech; empty if everywhere.
    """
    n_frames = -(-len(samples) // FRAME_SAMPLES)
    if not n_frames:
        return np.zeros(0, bool)
    padded = np.pad(samples, (0, n_frames * FRAME_SAMPLES - len(samples)))
    power = np.square(padded.reshape(n_frames, FRAME_SAMPLES), dtype=np.float64).mean(axis=1)
    levels_db = 10 * np.log10(power + 1e-12)
    inside = np.full(n_frames, not speech)
    for span in speech:
        inside[frames_of(span.start, span.end)] = True
    if not inside.any():
        return inside
    loud_db = np.percentile(levels_db[inside], LOUD_PERCENTILE)
    floor_db = np.percentile(levels_db, FLOOR_PERCENTILE)
    return np.asarray(inside & (levels_db >= max(loud_db - RANGE_DB, floor_db + ABOVE_FLOOR_DB)))


def frames_of(start: int, end: int) -> slice:
    """Return the frames that samples [start, end) touch."""
    return slice(max(0, start) // FRAME_SAMPLES, max(0, -(-end // FRAME_SAMPLES)))
