"""Who talks, told while they talk: voices are compared with those that were heard before.

Each speaker is the mean of their voices so far. A voice that is like one of them is theirs, and one
that is like none begins a new speaker. In between nobody is named, as what was told never changes.
It is the leader algorithm (J. Hartigan, Clustering Algorithms, 1975, chapter 3), with means in
place of leaders and a gap between its two answers.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from shared.speech.speakers.voices import Voice

LEAST_ALONE_S = 1.0
"""A voice that was heard alone for less is nobody's: its embedding is mostly noise."""
SAME = 0.6
"""Cosine from which a voice is that of the most similar speaker (docs/fidelity.md)."""
OTHER = 0.5
"""Cosine up to which a voice is like no speaker, and begins a new one (the same)."""
NEW_ALONE_S = 1.5
"""Speech that begins a new speaker: a wrong one would stay."""
MAX_WEIGHT_S = 4.0
"""The most that one voice counts in its speaker's mean: its embedding has no more speech."""
MAX_SPEAKERS = 20
"""Most speakers that are told apart, as in recordings."""


class OnlineSpeakers:
    """The speakers of one session, from 0 in the order in which they were first told."""

    def __init__(self, most: int = MAX_SPEAKERS) -> None:
        """Know nobody yet. Beyond ``most`` speakers, a voice is that of the most similar one."""
        self._most = most
        self._means: list[npt.NDArray[np.float32]] = []
        """Of each speaker, the sum of their voices; only its direction counts."""

    def __len__(self) -> int:
        return len(self._means)

    def labels(self, voices: Sequence[Voice]) -> list[int | None]:
        """Return whose voices they are; None: nobody can say.

        Those that were heard longest are judged first, as they make the surest means.
        """
        found: list[int | None] = [None] * len(voices)
        for number in sorted(range(len(voices)), key=lambda each: -voices[each].alone_s):
            found[number] = self._label(voices[number])
        return found

    def to_json(self) -> str:
        """Return what ``from_json`` goes on with."""
        sums = np.array(self._means, "<f4")
        return json.dumps([len(self._means), b64encode(sums.tobytes()).decode()])

    @classmethod
    def from_json(cls, told: str, most: int = MAX_SPEAKERS) -> Self:
        """Return the speakers that ``to_json`` told of; empty: none.

        Raises:
            ValueError, TypeError: it did not.
        """
        speakers = cls(most)
        if not told:
            return speakers
        n_speakers, content = json.loads(told)
        if n_speakers:
            sums = np.frombuffer(b64decode(content), "<f4").reshape(n_speakers, -1)
            speakers._means = [each.astype(np.float32) for each in sums]
        return speakers

    def _label(self, voice: Voice) -> int | None:
        if voice.alone_s < LEAST_ALONE_S:
            return None
        embedding = np.array(voice.embedding, np.float32)
        alike = [float(embedding @ (mean / np.linalg.norm(mean))) for mean in self._means]
        nearest = int(np.argmax(alike)) if alike else None
        if nearest is not None and alike[nearest] >= SAME:
            self._means[nearest] += embedding * min(voice.alone_s, MAX_WEIGHT_S)
            return nearest
        if len(self._means) >= self._most:
            return nearest
        if (nearest is None or alike[nearest] <= OTHER) and voice.alone_s >= NEW_ALONE_S:
            self._means.append(embedding * min(voice.alone_s, MAX_WEIGHT_S))
            return len(self._means) - 1
        return None
