"""Whose of the known voices a job's speakers are."""

from collections.abc import Sequence
from uuid import UUID, uuid4

import numpy as np
import pytest

from shared.speech.speakers.recognition import (
    SAME_PERSON,
    Vectors,
    decode,
    encode,
    mean_voice,
    recognize,
    voiceprints_of,
)
from shared.speech.speakers.voiceprints import LEAST_SPEECH_S, KnownVoice


def voices(*angles: float) -> Vectors:
    """Voices in a plane, at angles in degrees."""
    at = np.deg2rad(angles)
    return np.stack([np.cos(at), np.sin(at)], axis=1).astype(np.float32)


def known(*named: tuple[str, float]) -> list[KnownVoice]:
    return [
        KnownVoice(uuid4(), name, encode(voice))
        for (name, _), voice in zip(named, voices(*(at for _, at in named)), strict=True)
    ]


def names(
    centroids: Vectors, known: Sequence[KnownVoice], *, speech_s: float = 60.0
) -> list[str | None]:
    found = recognize(centroids, [speech_s] * len(centroids), known)
    return [each.voice.name if each else None for each in found]


def test_a_speaker_is_the_known_voice_that_is_most_alike() -> None:
    people = known(("Anna", 0), ("Bo", 90))
    assert names(voices(80, 10), people) == ["Bo", "Anna"]
    assert names(voices(80, 10), []) == [None, None]
    assert names(voices(10), people[:1]) == ["Anna"]


def test_a_voice_that_is_not_alike_enough_names_nobody() -> None:
    limit = float(np.rad2deg(np.arccos(SAME_PERSON)))
    assert names(voices(limit - 1), known(("Anna", 0))) == ["Anna"]
    assert names(voices(limit + 1), known(("Anna", 0))) == [None]
    assert names(voices(180), known(("Anna", 0))) == [None]


def test_two_speakers_of_a_recording_are_not_the_same_person() -> None:
    people = known(("Anna", 0), ("Anna", 20), ("Bo", 40))
    assert names(voices(19, 2), people) == ["Anna", "Bo"]
    assert names(voices(0, 0), known(("Anna", 0))) == ["Anna", None]


def test_who_says_little_is_not_recognized() -> None:
    people = known(("Anna", 0))
    assert names(voices(0), people, speech_s=LEAST_SPEECH_S - 0.1) == [None]
    assert names(voices(0), people, speech_s=LEAST_SPEECH_S) == ["Anna"]


def test_the_similarity_is_told_and_never_above_one() -> None:
    (found,) = recognize(voices(30), [60.0], known(("Anna", 0)))
    assert found is not None
    assert found.similarity == pytest.approx(np.cos(np.deg2rad(30)), abs=1e-3)
    (same,) = recognize(voices(33), [60.0], known(("Anna", 33)))
    assert same is not None
    assert 0.999 <= same.similarity <= 1.0
    assert isinstance(same.voice.id, UUID)


def test_voices_are_stored_as_they_are_to_a_thousandth() -> None:
    rng = np.random.default_rng(7)
    voice = rng.standard_normal(192).astype(np.float32)
    voice /= np.linalg.norm(voice)
    assert np.linalg.norm(decode(encode(voice))) == pytest.approx(1, abs=1e-6)
    assert decode(encode(voice)) @ voice == pytest.approx(1, abs=1e-6)


def test_one_person_who_was_taken_for_two_speakers_sounds_like_both_by_their_speech() -> None:
    prints = voiceprints_of("m", "1", voices(0, 90, 180))
    both = decode(mean_voice(prints, [(0, 30.0), (1, 30.0)]))
    assert both == pytest.approx(voices(45)[0], abs=1e-3)
    mostly = decode(mean_voice(prints, [(0, 90.0), (1, 1.0)]))
    assert mostly @ voices(0)[0] > 0.999
