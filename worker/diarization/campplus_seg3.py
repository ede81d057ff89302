"""The default diarizer: segmentation-3.0 finds local speakers, CAM++ embeds their voices."""

from collections.abc import Sequence
from importlib.metadata import version as installed_version

import numpy as np

from shared.models.weights import Weights
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.speakers.turns import SpeakerHints, Turn
from shared.speech.speakers.voices import Voice
from worker.diarization import timeline
from worker.diarization.clustering import cluster, means
from worker.diarization.hearing import FRAME_SAMPLES, hear
from worker.diarization.networks import Networks
from worker.diarization.protocol import Activities, Diarization, Vectors
from worker.diarization.timeline import Windows
from worker.diarization.voices import hear_voices

ALONE_S = (1.5, 0.5, 0.0)
"""Speakers are told apart by voices that were heard alone for so long; by shorter ones only where
there are not enough of these. Whoever is heard for less is the speaker whom they are most like."""
MAX_WEIGHT_S = 4.0


class CampplusSeg3:
    """Hears with networks of 34 MB and clusters with numpy; see ``protocol.Diarizer``."""

    def __init__(self, weights: Weights, threads: int = 1) -> None:
        """Load the networks.

        Raises:
            ModelError: onnxruntime is not installed, or it cannot read the files.
        """
        self._networks = Networks(weights.folder, threads)
        self.version = f"onnxruntime {installed_version('onnxruntime')}"
        self.weights_digest = weights.digest

    def local(self, audio: Samples, start_s: float) -> Activities:
        """Hear one span; see ``protocol.Diarizer``."""
        return hear(self._networks, audio, round(start_s * SAMPLE_RATE))

    def voices(self, audio: Samples) -> tuple[Voice, ...]:
        """Hear an utterance; see ``voices.HearsVoices``."""
        return hear_voices(self._networks, audio)

    def cluster(self, activities: Sequence[Activities], hints: SpeakerHints) -> Diarization:
        """Tell the speakers of all spans apart; see ``protocol.Diarizer``."""
        return tell_apart(timeline.join(activities), hints)


def tell_apart(windows: Windows, hints: SpeakerHints) -> Diarization:
    """Return who speaks when in a recording; needs no network."""
    least = hints.count or hints.min or 1
    chosen = np.zeros(len(windows.alone_s), np.bool_)
    for alone_s in ALONE_S:
        chosen = windows.alone_s >= alone_s
        if chosen.sum() >= max(least, 2):
            break
    voices = windows.embeddings[chosen]
    weights = np.clip(windows.alone_s[chosen], 0.1, MAX_WEIGHT_S)
    firsts = windows.firsts[windows.windows[chosen]]
    starts_s = firsts.astype(np.float64) * (FRAME_SAMPLES / SAMPLE_RATE)
    labels = cluster(voices, weights, starts_s, hints)
    centroids = means(voices, weights, labels)
    speakers, sureness = timeline.assign(windows, centroids)
    turns = timeline.turns(windows, speakers, sureness, len(centroids))
    return _numbered(turns, centroids)


def _numbered(turns: list[Turn], centroids: Vectors) -> Diarization:
    """Number speakers by their first turns. Whoever has none is left out."""
    order = list(dict.fromkeys(turn.speaker for turn in turns))
    numbers = {speaker: number for number, speaker in enumerate(order)}
    renumbered = [
        Turn(turn.start_s, turn.end_s, numbers[turn.speaker], turn.overlap, turn.confidence)
        for turn in turns
    ]
    return Diarization(tuple(renumbered), centroids[order])
