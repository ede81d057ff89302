"""What ``campplus-seg3`` hears in a span: local speakers of windows, and an embedding of each."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from worker.diarization.agreement import disagree
from worker.diarization.features import STEP_SAMPLES, log_mel_energies
from worker.diarization.networks import Networks
from worker.diarization.protocol import Activities

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
MAX_VOICE_FRAMES = 300
"""Longest speech, in frames of 10 ms, that an embedding is made from."""
LEAST_ALONE_S = 0.4
"""A speaker who talks alone for less is embedded from all of their speech."""
LEAST_VOICE_FRAMES = 20
"""Shorter speech is not embedded."""
N_LOCAL = 3
TALKS = 0.5
"""A local speaker talks where the network gives it this probability."""


def hear(networks: Networks, audio: Samples, start: int) -> Activities:
    """Return what is heard in a span that begins at sample ``start`` of the recording."""
    if len(audio) < LEAST_SAMPLES:
        audio = np.pad(audio, (0, LEAST_SAMPLES - len(audio)))
    length = min(WINDOW_SAMPLES, len(audio))
    step = WINDOW_STEP_SAMPLES if len(audio) > SHORT_SAMPLES else SHORT_STEP_SAMPLES
    offsets = list(range(0, len(audio) - length + 1, step))
    if (rest := len(audio) - length - offsets[-1]) > 0:
        # The last window ends with the audio.
        offsets[len(offsets) - (offsets[-1] > 0 and rest < step / 2) :] = [len(audio) - length]
    sounds = [offset for offset in offsets if _has_sound(audio[offset : offset + length])]
    activity = _activity(networks, audio, sounds, length)
    features = log_mel_energies(audio)
    windows: list[int] = []
    voices: list[int] = []
    alone_s: list[float] = []
    embeddings: list[npt.NDArray[np.float32]] = []
    for window in _embedded(activity >= TALKS, sounds, offsets):
        offset = sounds[window]
        for voice in range(N_LOCAL):
            frames, seconds = voice_frames(activity[window] >= TALKS, voice, offset, len(features))
            if len(frames) >= LEAST_VOICE_FRAMES:
                windows.append(window)
                voices.append(voice)
                alone_s.append(seconds)
                embeddings.append(networks.embedding(features[frames]))
    n_features = len(embeddings[0]) if embeddings else 0
    return Activities(
        np.array(sounds, np.int64) + start,
        np.full(len(sounds), activity.shape[1], np.int32),
        np.round(activity * 255).astype(np.uint8),
        np.array(windows, np.int32),
        np.array(voices, np.uint8),
        np.array(alone_s, np.float16),
        np.array(embeddings, np.float16).reshape(len(embeddings), n_features),
    )


def _embedded(
    talks: npt.NDArray[np.bool_], sounds: Sequence[int], offsets: Sequence[int]
) -> list[int]:
    """Return the numbers, among the windows with sound, of those whose voices are embedded."""
    usual = {*offsets[::EMBED_EVERY], offsets[-1]}
    chosen = {window for window, offset in enumerate(sounds) if offset in usual}
    for window in range(len(sounds)):
        for other in range(window + 1, min(window + 1 + N_COMPARED, len(sounds))):
            after = round((sounds[other] - sounds[window]) / FRAME_SAMPLES)
            if disagree(talks[window], talks[other], after):
                chosen.update(range(max(0, window - 1), min(other + 2, len(sounds))))
    return sorted(chosen)


def _has_sound(samples: Samples) -> bool:
    return bool(max(samples.max(), -samples.min()) >= SILENCE_PEAK)


def _activity(
    networks: Networks, audio: Samples, offsets: list[int], length: int
) -> npt.NDArray[np.float32]:
    """Return how likely each local speaker talks, shape (n_windows, n_frames, N_LOCAL)."""
    blocks = [np.zeros((0, 0, N_LOCAL), np.float32)]
    for first in range(0, len(offsets), BATCH_WINDOWS):
        batch = [audio[o : o + length] for o in offsets[first : first + BATCH_WINDOWS]]
        blocks.append(networks.activity(np.stack(batch)))
    return np.concatenate(blocks[1:] or blocks)


def voice_frames(
    talks: npt.NDArray[np.bool_], voice: int, offset: int, n_features: int
) -> tuple[npt.NDArray[np.int64], float]:
    """Choose the feature frames for a local speaker's embedding.

    Args:
        talks: who talks, shape (n_frames, N_LOCAL).
        voice: the local speaker.
        offset: the window's first sample in the span.
        n_features: feature frames of the span.

    Returns:
        The frames' numbers in the span, and the seconds that the speaker talks alone.
    """
    alone = talks[:, voice] & (talks.sum(axis=1) == 1)
    alone_s = float(alone.sum()) * FRAME_SAMPLES / SAMPLE_RATE
    chosen = alone if alone_s >= LEAST_ALONE_S else talks[:, voice]
    # The segmentation's frame at the middle of each feature frame.
    first = -(-offset // STEP_SAMPLES)
    numbers = np.arange(first, min(n_features, first + WINDOW_SAMPLES // STEP_SAMPLES))
    middles = numbers * STEP_SAMPLES + 200 - offset - FIRST_FRAME_SAMPLES
    frames = np.clip(np.round(middles / FRAME_SAMPLES).astype(int), 0, len(talks) - 1)
    numbers = numbers[chosen[frames]]
    return _longest(numbers), alone_s


def _longest(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Keep MAX_VOICE_FRAMES of the frames, of the longest stretches first."""
    if len(numbers) <= MAX_VOICE_FRAMES:
        return numbers
    stretches = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    stretches.sort(key=len, reverse=True)
    return np.sort(np.concatenate(stretches)[:MAX_VOICE_FRAMES])
