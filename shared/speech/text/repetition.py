"""How much a text repeats itself."""

import zlib


def compression_ratio(text: str) -> float:
    """Return the text's bytes per byte that zlib compresses them to."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))
