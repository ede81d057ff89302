"""From the windows of a recording to its speakers, whatever tells their voices apart."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from shared.speech.speakers.turns import SpeakerHints, Turn
from worker.diarization import timeline
from worker.diarization.protocol import Diarization, Vectors
from worker.diarization.timeline import Windows

Centroids = Callable[[npt.NDArray[np.bool_]], Vectors]
"""Returns the mean voice of each speaker, shape (n_speakers, n_features), by the chosen embeddings
alone; they are given by a mask of shape (n_embeddings,)."""


def diarized(
    windows: Windows, hints: SpeakerHints, alone_s: Sequence[float], centroids: Centroids
) -> Diarization:
    """Return who speaks when in a recording.

    Speakers are told apart by voices that were heard alone for ``alone_s[0]``; by shorter ones only
    where there are not enough of these. Whoever is heard for less is the speaker whom they are most
    like.
    """
    least = hints.count or hints.min or 1
    chosen = np.zeros(len(windows.alone_s), np.bool_)
    for seconds in alone_s:
        chosen = windows.alone_s >= seconds
        if chosen.sum() >= max(least, 2):
            break
    found = centroids(chosen)
    speakers, sureness = timeline.assign(windows, found)
    return _numbered(timeline.turns(windows, speakers, sureness, len(found)), found)


def _numbered(turns: list[Turn], centroids: Vectors) -> Diarization:
    """Number speakers by their first turns. Whoever has none is left out."""
    order = list(dict.fromkeys(turn.speaker for turn in turns))
    numbers = {speaker: number for number, speaker in enumerate(order)}
    renumbered = [
        Turn(turn.start_s, turn.end_s, numbers[turn.speaker], turn.overlap, turn.confidence)
        for turn in turns
    ]
    return Diarization(tuple(renumbered), centroids[order])
