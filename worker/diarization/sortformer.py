"""NVIDIA's Sortformer: one network says who of at most four talks in a window of 90 s.

It is run on windows one by one, each without the caches that it has for streams, so that spans are
independent. CAM++ embeds the local speakers' voices, by which those of several windows are linked.
The graph is what NeMo exports (deploy/export_nemo.py): T. Park et al., "Sortformer", 2024; I.
Medennikov et al., "Streaming Sortformer", 2025.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import version as installed_version
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from shared.infra.errors import ModelError
from shared.models.weights import Weights
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.speakers.turns import SpeakerHints
from worker.diarization import timeline
from worker.diarization.campplus import Campplus
from worker.diarization.clustering import Dendrogram, exactly, limits, means, merged
from worker.diarization.diarized import diarized
from worker.diarization.hearing import (
    FIRST_FRAME_SAMPLES,
    FRAME_SAMPLES,
    TALKS,
    Embedder,
    activities,
    has_sound,
    padded,
    window_offsets,
)
from worker.diarization.nemo_features import nemo_features
from worker.diarization.networks import Network
from worker.diarization.protocol import Activities, Diarization, Vectors
from worker.diarization.timeline import Windows

WINDOW_SAMPLES = 90 * SAMPLE_RATE
"""The network was trained on sessions of 90 s."""
WINDOW_STEP_SAMPLES = 45 * SAMPLE_RATE
"""Everything is heard by two windows."""
NETWORK_FRAME_SAMPLES = 1280
"""Samples of a frame of the network: 80 ms."""
N_LOCAL = 4
MAX_VOICE_FRAMES = 1000
"""Longest speech, in frames of 10 ms, that an embedding is made from. There are few: one for each
local speaker of a window."""
ALONE_S = (2.0, 0.5, 0.0)
"""See ``diarized.diarized``."""
SAME_VOICE = 0.5
"""Local speakers of different windows are one person if their voices are so alike (cosine, average
linkage). Those of one window are not: the network has told them apart."""
PREDICTIONS = "spkcache_fifo_chunk_preds"

Hear = Callable[[Samples], npt.NDArray[np.float32]]
"""Returns how likely each local speaker talks in a window, in frames of 80 ms: (n_frames, 4)."""


class Sortformer:
    """See ``protocol.Diarizer``."""

    version: str
    weights_digest: str

    def __init__(self, hear: Hear, embedder: Embedder, digest: str) -> None:
        """Use networks that are loaded."""
        self._hear = hear
        self._embedder = embedder
        self.version = f"onnxruntime {installed_version('onnxruntime')}"
        self.weights_digest = digest

    @classmethod
    def load(cls, weights: Weights, threads: int = 1) -> Self:
        """Load the networks.

        Raises:
            ModelError: onnxruntime is not installed, or it cannot read the files, or the graph is
                not NeMo's.
        """
        embedder = Campplus(
            weights.folder / "embedding.onnx", threads, WINDOW_SAMPLES, MAX_VOICE_FRAMES
        )
        network = StreamedGraph(Network(weights.folder / "sortformer.onnx", threads))
        return cls(network, embedder, weights.digest)

    def local(self, audio: Samples, start_s: float) -> Activities:
        """Hear one span; see ``protocol.Diarizer``."""
        audio = padded(audio)
        length = min(WINDOW_SAMPLES, len(audio))
        offsets = window_offsets(len(audio), length, WINDOW_STEP_SAMPLES)
        sounds = [offset for offset in offsets if has_sound(audio[offset : offset + length])]
        frames = np.arange(FIRST_FRAME_SAMPLES, length, FRAME_SAMPLES) // NETWORK_FRAME_SAMPLES
        likely = np.zeros((len(sounds), len(frames), N_LOCAL), np.float32)
        embed = self._embedder.listen(audio)
        found = []
        for window, offset in enumerate(sounds):
            coarse = self._hear(audio[offset : offset + length])
            likely[window] = coarse[np.minimum(frames, len(coarse) - 1)]
            found += [(window, voice) for voice in embed(offset, likely[window] >= TALKS)]
        return activities(round(start_s * SAMPLE_RATE), sounds, likely, found)

    def cluster(self, activities: Sequence[Activities], hints: SpeakerHints) -> Diarization:
        """Tell the speakers of all spans apart; see ``protocol.Diarizer``."""
        return tell_apart(timeline.join(activities), hints)


class StreamedGraph:
    """The graph for streams, heard a window at a time; see ``Hear``."""

    def __init__(self, network: Network) -> None:
        """Check that the graph is one.

        Raises:
            ModelError: it has other inputs.
        """
        inputs = network.inputs
        expected = {"chunk", "spkcache", "fifo"}
        if set(inputs) != expected | {f"{name}_lengths" for name in expected}:
            raise ModelError("sortformer.onnx has other inputs than NeMo's export for streams")
        self._network = network
        n_mels, n_features = inputs["chunk"][2], inputs["spkcache"][2]
        if not isinstance(n_mels, int) or not isinstance(n_features, int):
            raise ModelError("sortformer.onnx leaves open how many features it takes")
        self._n_mels, self._n_features = n_mels, n_features

    def __call__(self, window: Samples) -> npt.NDArray[np.float32]:
        """Return what the network says of a window; see ``Hear``."""
        features = nemo_features(window, self._n_mels)
        nothing = np.zeros((1, 0, self._n_features), np.float32)
        none = np.zeros(1, np.int64)
        inputs: dict[str, npt.NDArray[Any]] = {
            "chunk": features[np.newaxis],
            "chunk_lengths": np.array([len(features)], np.int64),
            "spkcache": nothing,
            "spkcache_lengths": none,
            "fifo": nothing,
            "fifo_lengths": none,
        }
        found = np.asarray(self._network.run(inputs, PREDICTIONS)[0], np.float32)
        if found.ndim != 2 or found.shape[1] != N_LOCAL or not len(found):
            raise ModelError(f"sortformer.onnx answers with an array of shape {found.shape}")
        return found


def tell_apart(windows: Windows, hints: SpeakerHints) -> Diarization:
    """Return who speaks when in a recording; needs no network."""

    def centroids(chosen: npt.NDArray[np.bool_]) -> Vectors:
        weights = np.clip(windows.alone_s[chosen], 0.1, None)
        return linked(windows.embeddings[chosen], weights, windows.windows[chosen], hints)

    return diarized(windows, hints, ALONE_S, centroids)


def linked(
    embeddings: Vectors,
    weights: npt.NDArray[np.float32],
    numbers: npt.NDArray[np.int64],
    hints: SpeakerHints,
) -> Vectors:
    """Return the mean voice of each speaker, of unit length; shape (n_speakers, n_features).

    Ten hours have some 3,000 local speakers, whose similarities are 40 MB.

    Args:
        embeddings: of local speakers; shape (n, n_features).
        weights: seconds of speech; shape (n,).
        numbers: of their windows; shape (n,).
        hints: how many speakers there are at least and at most.
    """
    if not len(embeddings):
        return embeddings
    apart = numbers == numbers[:, np.newaxis]
    tree = Dendrogram(embeddings, weights, apart=apart)
    labels = tree.cut(alike=SAME_VOICE)
    least, most = limits(hints)
    if labels.max() + 1 > most:
        labels = merged(embeddings, weights, labels, most)
    elif labels.max() + 1 < least:
        labels = exactly(embeddings, weights, tree, least)
    return means(embeddings, weights, labels)
