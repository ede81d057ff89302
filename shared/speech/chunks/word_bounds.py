"""Words that are too long are shortened to their sound.

Alignment by attention gives every frame to some word. So a word may stretch over a pause, or over
speech that the model left out, which would then seem to be heard.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from shared.speech.audio.levels import FRAME_SAMPLES, Frames, frames_of
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.hypothesis import WordHypothesis

MAX_WORD_SAMPLES = SAMPLE_RATE * 3 // 2
"""A word of five syllables, read slowly, takes 1.2 s. The longest of six minutes took 1.3 s."""
PAUSE_FRAMES = 10
"""Silence up to 200 ms may lie within a word, as the closure of a stop does."""
CLICK_FRAMES = 4
"""Sound shorter than 80 ms is no word. It is a breath, or the end of the word before."""


def bound_words(words: Iterable[WordHypothesis], sound: Frames) -> tuple[WordHypothesis, ...]:
    """Shorten words of more than MAX_WORD_SAMPLES to the first sound within them.

    Other words are returned as they are. Words stay in order, and none grows.
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
