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
from worker.diarization.features import log_mel_energies
from worker.diarization.hearing import (
    FIRST_FRAME_SAMPLES,
    FRAME_SAMPLES,
    LEAST_SAMPLES,
    LEAST_VOICE_FRAMES,
    N_LOCAL,
    WINDOW_SAMPLES,
    voice_frames,
)
from worker.diarization.networks import Networks

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


def hear_voices(networks: Networks, audio: Samples) -> tuple[Voice, ...]:
    """Return the voices of an utterance; see ``HearsVoices``."""
    if len(audio) < LEAST_SAMPLES:
        audio = np.pad(audio, (0, LEAST_SAMPLES - len(audio)))
    features = log_mel_energies(audio)
    n_windows = -(-len(audio) // WINDOW_SAMPLES)
    borders = np.linspace(0, len(audio), n_windows + 1).astype(int).tolist()
    found: list[Voice] = []
    for start, end in itertools.pairwise(borders):
        talks = networks.activity(audio[np.newaxis, start:end])[0] >= 0.5
        for local in range(N_LOCAL):
            turns = _turns(talks[:, local], start)
            frames, alone_s = voice_frames(talks, local, start, len(features))
            if turns and len(frames) >= LEAST_VOICE_FRAMES:
                embedding = networks.embedding(features[frames])
                found.append(Voice(tuple(embedding.tolist()), round(alone_s, 3), turns))
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
