"""The best path through a CTC network's output.

A CTC network gives one symbol per frame, or the blank, which is no symbol. The best path repeats a
symbol while it lasts, and has a blank between two equal symbols. So runs are merged first, and then
blanks are dropped (Graves et al. 2006, "Connectionist Temporal Classification", section 3.2).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from worker.engines.emissions import Emission

LogProbs = npt.NDArray[np.float32]
"""Natural logarithms of the posteriors, shape (n_frames, n_symbols)."""


def best_path(log_probs: LogProbs, symbols: Sequence[str], blank: int) -> Iterator[Emission]:
    """Yield the likeliest symbols, with runs merged and blanks dropped.

    A symbol's posterior is the largest within its run. In ``symbols``, the texts by index, a space
    begins a word, and an empty text is skipped. ``blank`` is an index.
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
