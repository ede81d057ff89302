"""Which parts of a chunk are loud enough to be speech."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shared.speech.audio import Samples
from shared.speech.chunks import SAMPLE_RATE
from shared.speech.spans import Span

FRAME_SAMPLES = SAMPLE_RATE * 20 // 1000
"""Levels are measured per 20 ms, on a grid that starts at the chunk's first sample."""

RANGE_DB = 35.0
"""Weak fricatives are some 30 dB below the loudest vowels (Fletcher 1953). What is further below a
chunk's speech is its background."""
ABOVE_FLOOR_DB = 6.0
"""Steady noise stays within this distance of the chunk's quietest frames."""
LOUD_PERCENTILE, FLOOR_PERCENTILE = 95, 5
"""Of the frames' levels: single bangs and single gaps do not count."""

Frames = npt.NDArray[np.bool_]
"""Shape (n_frames,): a property of each frame; the last one may be incomplete."""


def find_sound(samples: Samples, speech: Sequence[Span]) -> Frames:
    """Return which frames of a chunk stand out from its background.

    Spans of speech are padded and bridge pauses; this tells the speech in them from the pauses.

    Args:
        samples: shape (n_samples,).
        speech: where the voice activity detector heard speech; empty: everywhere.
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
