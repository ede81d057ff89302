"""Words of a possible length, where their sound is.

Attention gives every frame to some word, so a word may stretch over a pause or over speech that has
no words. Such a word would hide what was left unheard.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from shared.speech.chunks import SAMPLE_RATE, WordHypothesis
from shared.speech.levels import FRAME_SAMPLES, Frames, frames_of

MAX_WORD_SAMPLES = SAMPLE_RATE * 3 // 2
"""Read slowly, a word of five syllables takes 1.2 s; the longest of six minutes took 1.3 s."""
PAUSE_FRAMES = 10
"""Shorter silence (200 ms) is the closure of a stop within a word."""
CLICK_FRAMES = 4
"""Shorter sound (80 ms) is no word: a breath or the rest of the word before."""


def bound_words(words: Iterable[WordHypothesis], sound: Frames) -> tuple[WordHypothesis, ...]:
    """Shorten words that are longer than any word; the others are returned as they are.

    A long word begins with the first sound within it and ends with that sound. Words stay in order,
    and none grows.
    """
    return tuple(
        word if word.end - word.start <= MAX_WORD_SAMPLES else _shorten(word, sound)
        for word in words
    )


def _shorten(word: WordHypothesis, sound: Frames) -> WordHypothesis:
    within = frames_of(word.start, word.end)
    at = within.start + np.flatnonzero(sound[within])
    start, end = word.start, word.end
    if at.size:
        runs = np.split(at, np.flatnonzero(np.diff(at) > PAUSE_FRAMES) + 1)
        run = next((run for run in runs if len(run) >= CLICK_FRAMES), runs[0])
        start = max(start, int(run[0]) * FRAME_SAMPLES)
        end = min(end, int(run[-1] + 1) * FRAME_SAMPLES)
    return replace(word, start=start, end=min(end, start + MAX_WORD_SAMPLES))
