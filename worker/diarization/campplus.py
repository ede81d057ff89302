"""CAM++: embeddings of the voices of local speakers."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.speech.audio.samples import Samples
from worker.diarization.features import STEP_SAMPLES, Features, log_mel_energies
from worker.diarization.hearing import (
    FIRST_FRAME_SAMPLES,
    FRAME_SAMPLES,
    WINDOW_SAMPLES,
    Embed,
    LocalVoice,
    Talks,
    voice_mask,
)
from worker.diarization.networks import Network
from worker.diarization.protocol import Vectors

MAX_VOICE_FRAMES = 300
"""Longest speech, in frames of 10 ms, that an embedding is made from."""
LEAST_VOICE_FRAMES = 20
"""Shorter speech is not embedded."""


class Campplus:
    """The network, loaded; see ``hearing.Embedder``."""

    def __init__(
        self,
        path: Path,
        threads: int,
        window_samples: int = WINDOW_SAMPLES,
        max_voice_frames: int = MAX_VOICE_FRAMES,
    ) -> None:
        """Load it.

        Args:
            path: of the ONNX file.
            threads: processors that a call uses.
            window_samples: the longest windows that it embeds voices of.
            max_voice_frames: longest speech, in frames of 10 ms, that an embedding is made from.

        Raises:
            ModelError: onnxruntime is not installed, or it cannot read the file.
        """
        self._network = Network(path, threads)
        self._window_frames = window_samples // STEP_SAMPLES
        self._max_voice_frames = max_voice_frames

    def listen(self, audio: Samples) -> Embed:
        """Return what embeds the voices of the audio's windows."""
        features = log_mel_energies(audio)

        def embed(offset: int, talks: Talks) -> Iterator[LocalVoice]:
            for local in range(talks.shape[1]):
                mask, alone_s = voice_mask(talks, local)
                frames = self._feature_frames(mask, offset, len(features))
                if len(frames) >= LEAST_VOICE_FRAMES:
                    yield LocalVoice(local, alone_s, self._embedding(features[frames]))

        return embed

    def _embedding(self, features: Features) -> Vectors:
        """Return a voice's embedding, shape (n_features,), of unit length."""
        centred = features - features.mean(axis=0)
        vector = self._network(centred[np.newaxis])[0]
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-6), np.float32)

    def _feature_frames(
        self, mask: npt.NDArray[np.bool_], offset: int, n_features: int
    ) -> npt.NDArray[np.int64]:
        """Return the numbers, in the audio, of the feature frames that a mask selects.

        Args:
            mask: of a window's frames; shape (n_frames,).
            offset: the window's first sample in the audio.
            n_features: feature frames of the audio.
        """
        # The mask's frame at the middle of each feature frame.
        first = -(-offset // STEP_SAMPLES)
        numbers = np.arange(first, min(n_features, first + self._window_frames))
        middles = numbers * STEP_SAMPLES + 200 - offset - FIRST_FRAME_SAMPLES
        frames = np.clip(np.round(middles / FRAME_SAMPLES).astype(int), 0, len(mask) - 1)
        return _longest(numbers[mask[frames]], self._max_voice_frames)


def _longest(numbers: npt.NDArray[np.int64], n_kept: int) -> npt.NDArray[np.int64]:
    """Keep so many of the frames, of the longest stretches first."""
    if len(numbers) <= n_kept:
        return numbers
    stretches = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    stretches.sort(key=len, reverse=True)
    return np.sort(np.concatenate(stretches)[:n_kept])
