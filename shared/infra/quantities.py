"""Sizes and durations as people read them, for messages about limits."""

_SIZES = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))
_DURATIONS = (("hour", 3600), ("minute", 60))


def size(n_bytes: int) -> str:
    """Return a number of bytes in its largest unit, such as ``2 GiB`` or ``195.3 KiB``."""
    for unit, n in _SIZES:
        if n_bytes >= n:
            return f"{n_bytes / n:.1f}".removesuffix(".0") + f" {unit}"
    return f"{n_bytes} bytes"


def duration(seconds: float) -> str:
    """Return a time in the largest unit that it is a whole number of, such as ``12 hours``."""
    unit, n = next(
        (each for each in _DURATIONS if seconds >= each[1] and seconds % each[1] == 0),
        ("second", 1),
    )
    count = seconds / n
    return f"{count:,g} {unit}{'' if count == 1 else 's'}"
