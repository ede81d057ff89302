"""What is heard in a span: local speakers of windows of 10 s, and embeddings of their voices."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from worker.diarization.agreement import disagree
from worker.diarization.networks import Network, activity
from worker.diarization.protocol import Activities, Vectors

WINDOW_SAMPLES = 10 * SAMPLE_RATE
"""The segmentation network was trained on windows of 10 s."""
FRAME_SAMPLES = 270
"""Samples between two frames of the segmentation: 16.9 ms."""
FIRST_FRAME_SAMPLES = 495
"""The middle of a window's first frame."""
WINDOW_STEP_SAMPLES = 197 * FRAME_SAMPLES
"""3.3 s, in whole frames: everything is heard by three windows."""
SHORT_SAMPLES = 120 * SAMPLE_RATE
SHORT_STEP_SAMPLES = 74 * FRAME_SAMPLES
"""Up to two minutes are heard by eight windows: they have fewer for errors to cancel out."""
EMBED_EVERY = 2
"""Voices of every second window are embedded. Those between are known by when they talk, unless
windows disagree on who is who: there all are."""
N_COMPARED = 2
"""Each window is compared with so many after it."""
LEAST_SAMPLES = SAMPLE_RATE
"""Shorter audio is padded with silence."""
BATCH_WINDOWS = 4
"""Windows that the network hears at once. More are not faster, and take 20 MB each."""
SILENCE_PEAK = 1e-4
"""Windows whose peak is lower (-80 dBFS) are not heard: the network would amplify their noise."""
LEAST_ALONE_S = 0.4
"""A speaker who talks alone for less is embedded from all of their speech."""
N_LOCAL = 3
TALKS = 0.5
"""A local speaker talks where the network gives it this probability."""


Talks = npt.NDArray[np.bool_]
"""Who talks in a window; shape (n_frames, n_local)."""


class LocalVoice(NamedTuple):
    """The voice of a local speaker of a window."""

    local: int
    """The speaker's number in the window."""
    alone_s: float
    """How long they talk while nobody else does."""
    embedding: Vectors
    """Shape (n_features,), of unit length."""
    plda: Vectors = np.zeros(0, np.float32)
    """See ``Activities.plda``; shape (n_plda,)."""


Embed = Callable[[int, Talks], Iterable[LocalVoice]]
"""Embeds the voices of the window that begins at a sample, given who talks in it."""


class Embedder(Protocol):
    """A network that turns voices into embeddings."""

    def listen(self, audio: Samples) -> Embed:
        """Return what embeds the voices of the audio's windows.

        Raises:
            ModelError: the network failed; what is returned raises it as well.
        """
        ...


def hear(
    segmentation: Network,
    embedder: Embedder,
    audio: Samples,
    start: int,
    embed_every: int = EMBED_EVERY,
) -> Activities:
    """Return what is heard in a span that begins at sample ``start`` of the recording.

    Voices of each ``embed_every``-th window are embedded, and where windows disagree.
    """
    audio = padded(audio)
    length = min(WINDOW_SAMPLES, len(audio))
    step = WINDOW_STEP_SAMPLES if len(audio) > SHORT_SAMPLES else SHORT_STEP_SAMPLES
    offsets = window_offsets(len(audio), length, step)
    sounds = [offset for offset in offsets if has_sound(audio[offset : offset + length])]
    likely = _activity(segmentation, audio, sounds, length)
    embed = embedder.listen(audio)
    found = [
        (window, voice)
        for window in _embedded(likely >= TALKS, sounds, offsets, embed_every)
        for voice in embed(sounds[window], likely[window] >= TALKS)
    ]
    return activities(start, sounds, likely, found)


def padded(audio: Samples) -> Samples:
    """Return audio of LEAST_SAMPLES at least."""
    lacking = LEAST_SAMPLES - len(audio)
    return np.pad(audio, (0, lacking)) if lacking > 0 else audio


def window_offsets(n_samples: int, length: int, step: int) -> list[int]:
    """Return where windows begin; the last one ends with the audio."""
    offsets = list(range(0, n_samples - length + 1, step))
    if (rest := n_samples - length - offsets[-1]) > 0:
        offsets[len(offsets) - (offsets[-1] > 0 and rest < step / 2) :] = [n_samples - length]
    return offsets


def has_sound(samples: Samples) -> bool:
    """Whether a window is worth hearing."""
    return bool(max(samples.max(), -samples.min()) >= SILENCE_PEAK)


def activities(
    start: int,
    sounds: Sequence[int],
    likely: npt.NDArray[np.float32],
    found: Sequence[tuple[int, LocalVoice]],
) -> Activities:
    """Return what was heard of a span that begins at sample ``start`` of the recording.

    Args:
        start: as above.
        sounds: where in the span the windows begin that were heard.
        likely: how likely each local speaker talks; shape (n_windows, n_frames, n_local).
        found: voices, with the numbers of their windows.
    """
    return Activities(
        np.array(sounds, np.int64) + start,
        np.full(len(sounds), likely.shape[1], np.int32),
        np.round(likely * 255).astype(np.uint8),
        np.array([window for window, _ in found], np.int32),
        np.array([voice.local for _, voice in found], np.uint8),
        np.array([voice.alone_s for _, voice in found], np.float16),
        _rows([voice.embedding for _, voice in found]),
        _rows([voice.plda for _, voice in found]),
    )


def _rows(vectors: Sequence[Vectors]) -> npt.NDArray[np.float16]:
    return np.array(vectors, np.float16).reshape(len(vectors), len(vectors[0]) if vectors else 0)


def _embedded(
    talks: npt.NDArray[np.bool_], sounds: Sequence[int], offsets: Sequence[int], embed_every: int
) -> list[int]:
    """Return the numbers, among the windows with sound, of those whose voices are embedded."""
    usual = {*offsets[::embed_every], offsets[-1]}
    chosen = {window for window, offset in enumerate(sounds) if offset in usual}
    for window in range(len(sounds)):
        for other in range(window + 1, min(window + 1 + N_COMPARED, len(sounds))):
            after = round((sounds[other] - sounds[window]) / FRAME_SAMPLES)
            if disagree(talks[window], talks[other], after):
                chosen.update(range(max(0, window - 1), min(other + 2, len(sounds))))
    return sorted(chosen)


def _activity(
    segmentation: Network, audio: Samples, offsets: list[int], length: int
) -> npt.NDArray[np.float32]:
    """Return how likely each local speaker talks, shape (n_windows, n_frames, N_LOCAL)."""
    blocks = [np.zeros((0, 0, N_LOCAL), np.float32)]
    for first in range(0, len(offsets), BATCH_WINDOWS):
        batch = [audio[o : o + length] for o in offsets[first : first + BATCH_WINDOWS]]
        blocks.append(activity(segmentation, np.stack(batch)))
    return np.concatenate(blocks[1:] or blocks)


def voice_mask(talks: Talks, local: int) -> tuple[npt.NDArray[np.bool_], float]:
    """Choose the frames, shape (n_frames,), that a local speaker's voice is embedded from.

    Returns:
        The frames, and the seconds that the speaker talks alone.
    """
    alone = talks[:, local] & (talks.sum(axis=1) == 1)
    alone_s = float(alone.sum()) * FRAME_SAMPLES / SAMPLE_RATE
    return (alone if alone_s >= LEAST_ALONE_S else talks[:, local]), alone_s
