"""Vowels out of formants: artificial, but speech to Silero."""

import numpy as np

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm

FORMANTS_HZ = [  # a e i o u: Peterson and Barney 1952, male averages
    (730, 1090, 2440),
    (530, 1840, 2480),
    (270, 2290, 3010),
    (570, 840, 2410),
    (300, 870, 2240),
]


def vowels(duration_s: float) -> Pcm:
    """Four vowels a second in a gliding male voice: artificial, but speech to Silero."""
    t = np.arange(int(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    pitch_hz = 120 + 25 * np.sin(2 * np.pi * 0.7 * t)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE
    vowel = np.array(FORMANTS_HZ)[(t * 4).astype(int) % 5]
    sound = np.zeros_like(t)
    for harmonic in range(1, 40):
        distances = (harmonic * pitch_hz[:, np.newaxis] - vowel) / (80, 100, 120)
        gain = ((1, 0.6, 0.3) / (1 + distances**2)).sum(axis=1)
        sound += gain * np.sin(harmonic * phase)
    sound *= np.sqrt(np.abs(np.sin(4 * np.pi * t)))
    return (12_000 * sound / np.abs(sound).max()).astype(np.int16)
