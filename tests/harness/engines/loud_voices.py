"""A diarizer of the tests: whoever is loud is one speaker, and whoever is quiet another."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from shared.infra.settings import Settings
from shared.models.catalogue import Catalogue, load_catalogue
from shared.models.options import ResolvedOptions, SpeakerOptions
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.speakers.turns import SpeakerHints, Turn
from worker.diarization.protocol import Activities, Diarization

TOLD_APART = ResolvedOptions(
    model="oracle", vad="energy", speakers=SpeakerOptions(model="loud-voices")
)
QUIET = 0.25
"""The gain of the quiet speaker."""
_WINDOW = SAMPLE_RATE // 20


class LoudVoices:
    """Hears windows of 50 ms, by their peak."""

    version = "loudness 1"
    weights_digest = "sha256:none"

    def __init__(self) -> None:
        self.heard: list[tuple[float, int]] = []
        """Where each span began, and its samples."""

    def local(self, audio: Samples, start_s: float) -> Activities:
        self.heard.append((start_s, len(audio)))
        n_windows = len(audio) // _WINDOW
        peaks = np.abs(audio[: n_windows * _WINDOW].reshape(n_windows, _WINDOW)).max(axis=1)
        sounds = np.flatnonzero(peaks > 0.01)
        activity = np.zeros((len(sounds), 1, 3), np.uint8)
        activity[np.arange(len(sounds)), 0, (peaks[sounds] < 0.2).astype(int)] = 255
        return Activities(
            sounds * _WINDOW + round(start_s * SAMPLE_RATE),
            np.ones(len(sounds), np.int32),
            activity,
            *(np.zeros(0, kind) for kind in (np.int32, np.uint8, np.float16)),
            np.zeros((0, 2), np.float16),
        )

    def cluster(self, activities: Sequence[Activities], hints: SpeakerHints) -> Diarization:
        voices: dict[int, int] = {}
        for each in activities:
            numbers = each.activity[:, 0, :].argmax(axis=1)
            voices |= dict(zip(each.starts.tolist(), numbers.tolist(), strict=True))
        in_order = sorted(voices.items())
        numbers = {voice: n for n, voice in enumerate(dict.fromkeys(v for _, v in in_order))}
        turns = []
        for voice, run in groupby(in_order, key=lambda item: 0 if hints.count == 1 else item[1]):
            starts = [start for start, _ in run]
            speaker = numbers.get(voice, 0)
            turns.append(
                Turn(starts[0] / SAMPLE_RATE, (starts[-1] + _WINDOW) / SAMPLE_RATE, speaker)
            )
        return Diarization(tuple(turns), np.eye(max(1, len(numbers)), dtype=np.float32))


def catalogue_with_loud_voices(settings: Settings) -> Catalogue:
    catalogue = load_catalogue(settings.catalogue)
    entry = catalogue.diarizers["campplus-seg3"].model_copy(update={"id": "loud-voices"})
    return replace(catalogue, diarizers={**catalogue.diarizers, entry.id: entry})
