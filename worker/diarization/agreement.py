"""Where windows that hear the same audio disagree on who is who.

A network may take two voices for one local speaker. A window that begins elsewhere often does not.
"""

import numpy as np
import numpy.typing as npt

TOGETHER_FRAMES = 44
"""Local speakers of two windows are one person if both talk, and nobody else, for so long: 0.74 s.
Windows differ by less on where turns begin and end."""

Talks = npt.NDArray[np.bool_]
"""Who talks in a window; shape (n_frames, N_LOCAL)."""


def disagree(talks: Talks, later: Talks, after: int) -> bool:
    """Whether one window hears two speakers where the other hears one.

    Args:
        talks: who talks in a window.
        later: who talks in another one.
        after: by how many frames that begins later.
    """
    n_common = max(0, min(len(talks) - after, len(later)))
    ours, theirs = _alone(talks[after : after + n_common]), _alone(later[:n_common])
    same = ours.T @ theirs >= TOGETHER_FRAMES
    return bool((same.sum(axis=0) > 1).any() or (same.sum(axis=1) > 1).any())


def _alone(talks: Talks) -> npt.NDArray[np.int64]:
    alone: npt.NDArray[np.bool_] = talks & (talks.sum(axis=1, keepdims=True) == 1)
    return alone.astype(np.int64)
