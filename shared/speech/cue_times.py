"""How long a subtitle cue stays on the screen.

The limits are those of Netflix's Timed Text Style Guide (Subtitle Timing Guidelines).
"""

MIN_CUE_MS = 833
"""Shortest cue unless the next one follows sooner: 5/6 of a second (Netflix)."""
MAX_CUE_MS = 7_000
"""Longest cue (Netflix)."""
MAX_CHARS_PER_S = 20
"""Reading speed above which a cue costs more (Netflix, adults, English)."""
LINGER_MS = 500
"""How long a cue may stay after its last word to be read: half a second (Netflix)."""
GAP_MS = 83
"""Least gap between two cues: two frames at 24 a second (Netflix)."""
CHAINED_MS = 500
"""A gap shorter than half a second is closed to ``GAP_MS``, to avoid flicker (Netflix)."""


def shown_until(
    start_ms: int, last_start_ms: int, end_ms: int, n_chars: int, next_start_ms: int | None
) -> int:
    """Return when a cue leaves the screen, in ms.

    It stays while its words are spoken, and longer if reading takes longer, up to the next cue.

    Args:
        start_ms: start of the cue.
        last_start_ms: start of its last word.
        end_ms: end of its last word.
        n_chars: length of its text.
        next_start_ms: start of the next cue; None: there is none.
    """
    readable = min(start_ms + n_chars * 1000 // MAX_CHARS_PER_S, end_ms + LINGER_MS)
    until = max(end_ms, readable, start_ms + MIN_CUE_MS)
    if next_start_ms is not None and next_start_ms - until < CHAINED_MS:
        # The gap gives way to the shortest duration and to the last word's start.
        with_gap = max(next_start_ms - GAP_MS, start_ms + MIN_CUE_MS, last_start_ms + 1)
        until = min(with_gap, next_start_ms)
    # Players drop cues of no length.
    return max(start_ms + 1, min(until, start_ms + MAX_CUE_MS))
