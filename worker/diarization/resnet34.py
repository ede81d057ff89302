"""WeSpeaker's ResNet34, as pyannote.audio uses it: embeddings of the voices of local speakers."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from shared.infra.errors import ModelError
from shared.models.conversion.checkpoints import Array
from shared.models.conversion.resnet34 import resnet34_graph
from shared.speech.audio.samples import Samples
from worker.diarization.features import log_mel_energies
from worker.diarization.hearing import WINDOW_SAMPLES, Embed, LocalVoice, Talks, voice_mask
from worker.diarization.networks import Network
from worker.diarization.plda import Plda
from worker.diarization.protocol import Vectors

FULL_SCALE = 32768
"""The network was trained on the numbers of 16-bit samples."""
LEAST_VOICE_FRAMES = 12
"""Speech of fewer frames of the segmentation, 0.2 s, is not embedded."""


class Resnet34:
    """The network, loaded; see ``hearing.Embedder``.

    It hears a window once, whoever talks in it. Each speaker's embedding is pooled from the frames
    in which they talk alone.
    """

    def __init__(self, weights: Mapping[str, Array], plda: Plda, threads: int) -> None:
        """Load it.

        Raises:
            ModelError: onnxruntime is not installed, or the tensors are another network's.
        """
        try:
            self._network = Network(resnet34_graph(weights), threads)
            self._linear, self._bias = weights["resnet.seg_1.weight"], weights["resnet.seg_1.bias"]
        except KeyError as error:
            raise ModelError(f"the model's network for voices has no tensor {error}") from error
        self._plda = plda

    def listen(self, audio: Samples) -> Embed:
        """Return what embeds the voices of the audio's windows."""

        def embed(offset: int, talks: Talks) -> Iterator[LocalVoice]:
            chosen = [(local, *voice_mask(talks, local)) for local in range(talks.shape[1])]
            chosen = [each for each in chosen if each[1].sum() >= LEAST_VOICE_FRAMES]
            if not chosen:
                return
            frames = self._frames(audio[offset : offset + WINDOW_SAMPLES])
            for local, mask, alone_s in chosen:
                vector = self._linear @ pooled(frames, mask) + self._bias
                length = max(float(np.linalg.norm(vector)), 1e-6)
                plda = self._plda(vector[np.newaxis])[0]
                yield LocalVoice(local, alone_s, vector / length, plda)

        return embed

    def _frames(self, window: Samples) -> Vectors:
        """Return what the network makes of a window; shape (n_features, n_frames)."""
        features = log_mel_energies(window * np.float32(FULL_SCALE), "hamming")
        found = self._network((features - features.mean(axis=0))[np.newaxis])
        return np.asarray(found[0], np.float32)


def pooled(frames: Vectors, mask: npt.NDArray[np.bool_]) -> Vectors:
    """Return means and standard deviations over a speaker's frames; shape (2 * n_features,).

    Args:
        frames: shape (n_features, n_frames).
        mask: of any number of frames for the same time; shape (n_mask_frames,).
    """
    n_frames = frames.shape[1]
    own = frames[:, mask[np.arange(n_frames) * len(mask) // n_frames]]
    n_own = max(own.shape[1], 1)
    mean = own.sum(axis=1) / n_own
    squares = np.square(own - mean[:, np.newaxis]).sum(axis=1)
    return np.concatenate([mean, np.sqrt(squares / max(n_own - 1, 1))])
