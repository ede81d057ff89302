"""pyannote's community-1: its segmentation, WeSpeaker's ResNet34, a PLDA and VBx.

The files are those of https://huggingface.co/pyannote/speaker-diarization-community-1 (CC-BY-4.0),
as they are there. They are read without PyTorch, and no pickle is run (docs/adr/0018).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version as installed_version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.infra.errors import ModelError
from shared.models.conversion.checkpoints import Array, read_checkpoint, tensors
from shared.models.conversion.segmentation import segmentation_graph
from shared.models.weights import Weights
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.speakers.turns import SpeakerHints
from worker.diarization import timeline, vbx
from worker.diarization.diarized import diarized
from worker.diarization.hearing import FRAME_SAMPLES, hear
from worker.diarization.networks import Network
from worker.diarization.plda import Plda
from worker.diarization.protocol import Activities, Diarization, Vectors
from worker.diarization.resnet34 import Resnet34
from worker.diarization.timeline import Windows

ALONE_S = (1.98, 0.5, 0.0)
"""See ``diarized.diarized``. pyannote takes a fifth of a window of 10 s, in whole frames."""
THEIR_STEP_S = 1.0
"""Windows of pyannote's begin so far apart, and VBx was tuned to as much evidence."""


class Community1:
    """Hears with networks of 33 MB and clusters with numpy; see ``protocol.Diarizer``."""

    def __init__(self, weights: Weights, threads: int = 1) -> None:
        """Load the networks.

        Raises:
            ModelError: onnxruntime is not installed, or a file is not what it should be.
        """
        folder = weights.folder
        self._plda = Plda(folder / "plda")
        state = _tensors(folder / "segmentation" / "pytorch_model.bin")
        try:
            self._segmentation = Network(segmentation_graph(state), threads)
        except KeyError as error:
            raise ModelError(f"the model's segmentation has no tensor {error}") from error
        state = _tensors(folder / "embedding" / "pytorch_model.bin")
        self._embedder = Resnet34(state, self._plda, threads)
        self.version = f"onnxruntime {installed_version('onnxruntime')}"
        self.weights_digest = weights.digest

    def local(self, audio: Samples, start_s: float) -> Activities:
        """Hear one span; see ``protocol.Diarizer``."""
        start = round(start_s * SAMPLE_RATE)
        heard = hear(self._segmentation, self._embedder, audio, start, embed_every=1)
        return replace(heard, plda_variances=self._plda.variances)

    def cluster(self, activities: Sequence[Activities], hints: SpeakerHints) -> Diarization:
        """Tell the speakers of all spans apart; see ``protocol.Diarizer``."""
        return tell_apart(timeline.join(activities), hints)


def tell_apart(windows: Windows, hints: SpeakerHints) -> Diarization:
    """Return who speaks when in a recording; needs no network."""

    def centroids(chosen: npt.NDArray[np.bool_]) -> Vectors:
        steps = np.diff(windows.firsts) * (FRAME_SAMPLES / SAMPLE_RATE / THEIR_STEP_S)
        step = float(np.median(steps)) if len(steps) else 1.0
        weights = np.full(int(chosen.sum()), max(step, 1e-3), np.float32)
        plda = windows.plda[chosen]
        return vbx.centroids(
            windows.embeddings[chosen], plda, windows.plda_variances, weights, hints
        )

    return diarized(windows, hints, ALONE_S, centroids)


def _tensors(path: Path) -> Mapping[str, Array]:
    with path.open("rb") as file:
        checkpoint = read_checkpoint(file, leave_out_objects=True)
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ModelError(f"the model's {path.parent.name} is no checkpoint of pyannote.audio")
    return tensors(checkpoint["state_dict"])
