"""How long a subtitle cue stays on the screen.

The limits are those of Netflix's Timed Text Style Guide (Subtitle Timing Guidelines).
"""

MIN_CUE_MS = 833  # 5/6 of a second; shorter only if the next cue follows sooner
MAX_CUE_MS = 7_000
MAX_COLUMNS_PER_S = 20  # reading speed of adults, in English; above it a cue costs more
LINGER_MS = 500  # how long a cue may stay after its last word to be read
GAP_MS = 83  # least gap between two cues: two frames at 24 a second
CHAINED_MS = 500  # a shorter gap is closed to GAP_MS, to avoid flicker


def shown_until(
    start_ms: int, last_start_ms: int, end_ms: int, n_columns: int, next_start_ms: int | None
) -> int:
    """Return when a cue leaves the screen, in ms.

    It stays until the end of its last word, and longer if reading takes longer, up to the start of
    the next cue (None: there is none). ``last_start_ms`` is the start of its last word.
    """
    readable = min(start_ms + n_columns * 1000 // MAX_COLUMNS_PER_S, end_ms + LINGER_MS)
    until = max(end_ms, readable, start_ms + MIN_CUE_MS)
    if next_start_ms is not None and next_start_ms - until < CHAINED_MS:
        # The gap gives way to the shortest duration and to the last word's start.
        with_gap = max(next_start_ms - GAP_MS, start_ms + MIN_CUE_MS, last_start_ms + 1)
        until = min(with_gap, next_start_ms)
    # Players drop cues of no length.
    return max(start_ms + 1, min(until, start_ms + MAX_CUE_MS))
