"""Voices for tests: whoever is loud is one speaker, and whoever is quiet another."""

import asyncio
import wave
from dataclasses import dataclass

import numpy as np

from harness.live.hearers import ToneHearer
from harness.repository.tree import ROOT
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.live.requests import LiveAnswer, LiveKind, LiveRequest
from shared.speech.speakers.voices import Voice

DIARIZER = "campplus-seg3"
LOUD_PEAK = 0.2


def spoken() -> bytes:
    """Return a voice, which detectors of speech take for one, as s16le at 16 kHz."""
    with wave.open(str(ROOT / "samples" / "hello.wav")) as file:
        return file.readframes(file.getnframes())


def quietly(pcm: bytes) -> bytes:
    """Return s16le at a quarter of its level."""
    return (np.frombuffer(pcm, "<i2") // 4).astype("<i2").tobytes()


def voice_in(request: LiveRequest) -> Voice:
    audio = np.abs(np.frombuffer(request.pcm, "<i2").astype(np.float32) / 32768)
    sound = np.flatnonzero(audio > 0.01) / SAMPLE_RATE
    embedding = (1.0, 0.0) if audio.max() > LOUD_PEAK else (0.0, 1.0)
    begin, end = float(sound[0]), float(sound[-1])
    return Voice(embedding, end - begin, ((begin, end),))


@dataclass
class VoiceHearer(ToneHearer):
    """Reads tone words, and tells loud and quiet ones apart."""

    models: frozenset[str] = frozenset({"oracle", DIARIZER})
    voice_delay_s: float = 0.0
    voice_error: str | None = None

    async def hear(self, request: LiveRequest) -> LiveAnswer:
        if request.kind is not LiveKind.SPEAKER:
            return await super().hear(request)
        self.requests.append(request)
        await asyncio.sleep(self.voice_delay_s)
        if self.voice_error is not None:
            return LiveAnswer(request.id, None, self.voice_error)
        return LiveAnswer(request.id, None, voices=(voice_in(request),))
