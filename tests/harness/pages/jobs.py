"""Jobs for tests of the page: with audio, peaks and words that take half a second each."""

import io
import math
import wave
from collections.abc import Sequence
from uuid import UUID

import numpy as np
from sqlalchemy import Engine

from harness.jobs.job_store import CHUNK, claim, finish, new_job, transcribe
from harness.jobs.word_streams import transcript_of
from shared.infra.storage import Storage
from shared.speech.transcript.transcript import Word
from shared.store import steps
from shared.store.jobs.create import create_job
from shared.store.objects.keys import source_key
from shared.store.steps import NewStep

SECONDS = 20


def sound() -> bytes:
    """Return a WAV file of a tone."""
    tone = 8000 * np.sin(np.arange(16_000 * SECONDS) * 2 * math.pi * 220 / 16_000)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        writer.writeframes(tone.astype("<i2").tobytes())
    return file.getvalue()


def spoken(*segments: str) -> list[list[Word]]:
    """Return words that take half a second each; that are unsure which end in a comma."""
    made, at = [], 0.0
    for segment in segments:
        words = []
        for text in segment.split():
            confidence = 0.2 if text.endswith(",") else 0.9
            words.append(Word(text=text, start=at, end=at + 0.5, confidence=confidence))
            at += 0.5
        made.append(words)
    return made


def add_transcribed(
    database: Engine, storage: Storage, segments: Sequence[list[Word]], audio: bytes = b""
) -> UUID:
    """Add a job that has succeeded, with its audio."""
    job = new_job(source_name="austen.wav", source_bytes=len(audio))
    create_job(database, job, max_attempts=3)
    storage.put(source_key(job.id), audio)
    claimed = claim(database, job.id, "prepare")
    steps.add_chunks(database, claimed, [NewStep(0, CHUNK)], max_attempts=3)
    steps.complete_prepare(
        database,
        claimed,
        duration_s=SECONDS,
        metrics={},
        max_attempts=3,
        peaks=bytes(range(0, 250, 10)),
    )
    transcribe(database, claim(database, job.id, "transcribe"))
    whole = transcript_of(*segments).model_copy(update={"duration_s": float(SECONDS)})
    finish(database, claim(database, job.id, "finish"), whole)
    return job.id
