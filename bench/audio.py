"""Audio of known words in any length, written without holding it in memory."""

import wave
from pathlib import Path

from worker.audio import SAMPLE_RATE
from worker.engines.oracle import WORD_SAMPLES, encode

GAP_S = 0.3


def write_words(path: Path, duration_s: float) -> int:
    """Write about ``duration_s`` of distinct tone words as a WAV file; return how many words."""
    per_word = WORD_SAMPLES / SAMPLE_RATE + GAP_S
    n_words = int(duration_s / per_word)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        for first in range(0, n_words, 1000):
            samples, _ = encode(range(first, min(first + 1000, n_words)), GAP_S)
            file.writeframes((samples * 32767).astype("<i2").tobytes())
    return n_words
