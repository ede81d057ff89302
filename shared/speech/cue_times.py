"""How long a subtitle cue stays on the screen.

The limits are those of Netflix's Timed Text Style Guide (Subtitle Timing Guidelines).
"""

MIN_CUE_MS = 833
"""Shortest cue unless the next one follows sooner: 5/6 of a second (Netflix)."""
MAX_CUE_MS = 7_000
"""Longest cue (Netflix)."""
MAX_CHARS_PER_S = 20
"""Reading speed above which a cue costs more: Netflix's for adults, in English."""
LINGER_MS = 500
"""How long a cue may stay after its last word to be read: half a second (Netflix)."""
GAP_MS = 83
"""Between cues that follow each other: two frames, at 24 a second (Netflix)."""
CHAINED_MS = 500
"""A shorter gap is closed to ``GAP_MS``, so that nothing flickers: half a second (Netflix)."""


def shown_until(
    start_ms: int, last_start_ms: int, end_ms: int, n_chars: int, next_start_ms: int | None
) -> int:
    """Return when a cue leaves the screen, in ms.

    It stays while its words are spoken, somewhat longer where reading it takes longer, and makes
    room for the next cue.

    Args:
        start_ms: of the cue.
        last_start_ms: of its last word.
        end_ms: of its last word.
        n_chars: length of its text.
        next_start_ms: of the next cue; None: there is none.
    """
    readable = min(start_ms + n_chars * 1000 // MAX_CHARS_PER_S, end_ms + LINGER_MS)
    until = max(end_ms, readable, start_ms + MIN_CUE_MS)
    if next_start_ms is not None and next_start_ms - until < CHAINED_MS:
        # The shortest duration and the last word's start take precedence over the gap.
        with_gap = max(next_start_ms - GAP_MS, start_ms + MIN_CUE_MS, last_start_ms + 1)
        until = min(with_gap, next_start_ms)
    # Players drop cues of no length.
    return max(start_ms + 1, min(until, start_ms + MAX_CUE_MS))
