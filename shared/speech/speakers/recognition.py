"""Whose of the known voices a job's speakers are."""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.speech.speakers.voiceprints import LEAST_SPEECH_S, KnownVoice, Voiceprints

Vectors = npt.NDArray[np.float32]
"""Shape (n, n_features); each of unit length."""

SAME_PERSON = 0.7
"""Cosine from which a speaker is taken for a known voice (docs/fidelity.md has its errors)."""


def voiceprints_of(model: str, revision: str, centroids: Vectors) -> Voiceprints:
    """Return what is stored of centroids, shape (n_speakers, n_features)."""
    return Voiceprints(
        model=model, revision=revision, speakers=tuple(encode(each) for each in centroids)
    )


def encode(voice: npt.NDArray[np.float32]) -> str:
    """Return a voice, shape (n_features,), as it is stored."""
    return b64encode(voice.astype("<f2").tobytes()).decode()


def decode(stored: str) -> npt.NDArray[np.float32]:
    """Return a stored voice, of unit length."""
    return _unit(np.frombuffer(b64decode(stored), "<f2").astype(np.float32))


def mean_voice(prints: Voiceprints, speech_s: Iterable[tuple[int, float]]) -> str:
    """Return the voice of one person who was taken for several speakers.

    Args:
        prints: of the job.
        speech_s: those speakers, and how long each talks.
    """
    parts = [decode(prints.speakers[speaker]) * seconds for speaker, seconds in speech_s]
    return encode(_unit(np.sum(parts, axis=0)))


@dataclass(frozen=True, slots=True)
class Recognized:
    """Whose voice a speaker has."""

    voice: KnownVoice
    similarity: float
    """Cosine, in [SAME_PERSON, 1]."""


def recognize(
    centroids: Vectors, speech_s: Sequence[float], known: Sequence[KnownVoice]
) -> list[Recognized | None]:
    """Return whose voice each speaker has; None: no known one, or too little was heard.

    The most alike are paired first, and a name is given to one speaker alone: a recording's
    speakers are different people.

    Args:
        centroids: the speakers' mean voices, shape (n_speakers, n_features).
        speech_s: how long each of them talks.
        known: the tenant's voices, by the same model.
    """
    found: list[Recognized | None] = [None] * len(centroids)
    if not known:
        return found
    alike = centroids @ np.stack([decode(each.voiceprint) for each in known]).T
    taken: set[str] = set()
    for at in np.argsort(-alike, axis=None, kind="stable"):
        speaker, number = divmod(int(at), len(known))
        similarity = float(alike[speaker, number])
        if similarity < SAME_PERSON:
            break
        voice = known[number]
        is_free = found[speaker] is None and voice.name not in taken
        if is_free and speech_s[speaker] >= LEAST_SPEECH_S:
            found[speaker] = Recognized(voice, round(min(similarity, 1.0), 3))
            taken.add(voice.name)
    return found


def _unit(voice: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(voice / max(float(np.linalg.norm(voice)), 1e-9), np.float32)
