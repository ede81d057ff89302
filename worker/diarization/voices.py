"""The voices of one utterance: what a live session's finals get their speakers by.

An utterance is heard once, in windows that do not overlap: three times faster than a recording's
spans, whose windows overlap so that errors cancel out.
"""

import itertools
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.speakers.voices import Voice
from worker.diarization.hearing import (
    FIRST_FRAME_SAMPLES,
    FRAME_SAMPLES,
    TALKS,
    WINDOW_SAMPLES,
    Embedder,
    padded,
)
from worker.diarization.networks import Network, activity

LEAST_TURN_FRAMES = 6
"""Shorter turns, 0.1 s, are clicks."""


@runtime_checkable
class HearsVoices(Protocol):
    """A diarizer that hears the voices of an utterance, beside those of recordings."""

    def voices(self, audio: Samples) -> tuple[Voice, ...]:
        """Return who talks in up to 30 s of audio. One speaker may be several voices.

        Raises:
            ModelError: a network failed.
        """
        ...


def hear_voices(segmentation: Network, embedder: Embedder, audio: Samples) -> tuple[Voice, ...]:
    """Return the voices of an utterance; see ``HearsVoices``."""
    audio = padded(audio)
    embed = embedder.listen(audio)
    n_windows = -(-len(audio) // WINDOW_SAMPLES)
    borders = np.linspace(0, len(audio), n_windows + 1).astype(int).tolist()
    found: list[Voice] = []
    for start, end in itertools.pairwise(borders):
        talks = activity(segmentation, audio[np.newaxis, start:end])[0] >= TALKS
        for voice in embed(start, talks):
            if turns := _turns(talks[:, voice.local], start):
                vector = tuple(voice.embedding.tolist())
                found.append(Voice(vector, round(voice.alone_s, 3), turns))
    return tuple(found)


def _turns(talks: npt.NDArray[np.bool_], start: int) -> tuple[tuple[float, float], ...]:
    """Return when somebody talks, in seconds; their window begins at sample ``start``."""
    borders = np.flatnonzero(np.diff(talks.astype(np.int8), prepend=0, append=0))
    first_s = (start + FIRST_FRAME_SAMPLES - FRAME_SAMPLES / 2) / SAMPLE_RATE
    return tuple(
        (
            round(first_s + begin * FRAME_SAMPLES / SAMPLE_RATE, 3),
            round(first_s + end * FRAME_SAMPLES / SAMPLE_RATE, 3),
        )
        for begin, end in borders.reshape(-1, 2).tolist()
        if end - begin >= LEAST_TURN_FRAMES
    )
