"""The default diarizer: segmentation-3.0 finds local speakers, CAM++ embeds their voices."""

from collections.abc import Sequence
from importlib.metadata import version as installed_version

import numpy as np
import numpy.typing as npt

from shared.models.weights import Weights
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.speakers.turns import SpeakerHints
from shared.speech.speakers.voices import Voice
from worker.diarization import timeline
from worker.diarization.campplus import Campplus
from worker.diarization.clustering import cluster, means
from worker.diarization.diarized import diarized
from worker.diarization.hearing import FRAME_SAMPLES, hear
from worker.diarization.networks import Network
from worker.diarization.protocol import Activities, Diarization, Vectors
from worker.diarization.timeline import Windows
from worker.diarization.voices import hear_voices

SEGMENTATION, EMBEDDING = "segmentation.onnx", "embedding.onnx"
ALONE_S = (1.5, 0.5, 0.0)
"""See ``diarized.diarized``."""
MAX_WEIGHT_S = 4.0


class CampplusSeg3:
    """Hears with networks of 34 MB and clusters with numpy; see ``protocol.Diarizer``."""

    def __init__(self, weights: Weights, threads: int = 1) -> None:
        """Load the networks.

        Raises:
            ModelError: onnxruntime is not installed, or it cannot read the files.
        """
        self._segmentation = Network(weights.folder / SEGMENTATION, threads)
        self._embedder = Campplus(weights.folder / EMBEDDING, threads)
        self.version = f"onnxruntime {installed_version('onnxruntime')}"
        self.weights_digest = weights.digest

    def local(self, audio: Samples, start_s: float) -> Activities:
        """Hear one span; see ``protocol.Diarizer``."""
        return hear(self._segmentation, self._embedder, audio, round(start_s * SAMPLE_RATE))

    def voices(self, audio: Samples) -> tuple[Voice, ...]:
        """Hear an utterance; see ``voices.HearsVoices``."""
        return hear_voices(self._segmentation, self._embedder, audio)

    def cluster(self, activities: Sequence[Activities], hints: SpeakerHints) -> Diarization:
        """Tell the speakers of all spans apart; see ``protocol.Diarizer``."""
        return tell_apart(timeline.join(activities), hints)


def tell_apart(windows: Windows, hints: SpeakerHints) -> Diarization:
    """Return who speaks when in a recording; needs no network."""

    def centroids(chosen: npt.NDArray[np.bool_]) -> Vectors:
        voices = windows.embeddings[chosen]
        weights = np.clip(windows.alone_s[chosen], 0.1, MAX_WEIGHT_S)
        firsts = windows.firsts[windows.windows[chosen]]
        starts_s = firsts.astype(np.float64) * (FRAME_SAMPLES / SAMPLE_RATE)
        return means(voices, weights, cluster(voices, weights, starts_s, hints))

    return diarized(windows, hints, ALONE_S, centroids)
