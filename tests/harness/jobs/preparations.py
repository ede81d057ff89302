"""Files that are prepared and transcribed in this process, on real servers."""

from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import Engine, text

from harness.jobs.job_store import add_stored_job, claim, step_ids
from harness.jobs.step_runner import run_claimed
from harness.jobs.transcripts import get_transcript
from harness.media.recipes import wav
from harness.servers.api_server import stored
from shared.infra.database import begin
from shared.models.options import ResolvedOptions
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.transcript.transcript import Segment, Transcript
from shared.store import steps
from worker.engines.oracle import encode, word_text
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime
from worker.steps.finish import finish
from worker.steps.prepare import prepare

DETECTING = ResolvedOptions(model="whisper-base", vad="energy")
HELD = "steps.run_at = 'infinity'"


def speech(*at_s: float, word: int = 0) -> Samples:
    """Ten seconds of words from each of the times on, silence in between, numbered from word."""
    parts, end = [], 0
    for begin_s in at_s:
        samples, _ = encode(range(word, word + 20), gap_s=0.26)
        parts += [np.zeros(round(begin_s * SAMPLE_RATE) - end, np.float32), samples]
        end = round(begin_s * SAMPLE_RATE) + len(samples)
        word += 20
    return np.concatenate(parts)


def submit(runtime: Runtime, options: ResolvedOptions, *channels: Samples) -> UUID:
    n_samples = max(map(len, channels))
    both = np.stack([np.pad(samples, (0, n_samples - len(samples))) for samples in channels])
    file = wav((both.T * 32767).astype(np.int16), channels=len(channels))
    return add_stored_job(runtime.database, runtime.storage, file, options=options)


def run_all(runtime: Runtime, job_id: UUID) -> Transcript:
    """Run every step of a job whose model is the oracle."""
    for kind, handler in (("prepare", prepare), ("transcribe", None), ("finish", finish)):
        for step_id in step_ids(runtime.database, job_id, kind):
            run_claimed(runtime, step_id, handler)
    return get_transcript(runtime.database, "default", job_id)


def start_preparing(runtime: Runtime, job_id: UUID) -> steps.Claim:
    claimed = claim(runtime.database, job_id, "prepare")
    prepare(runtime, Lease(claimed))
    return claimed


def prepare_again(runtime: Runtime, job_id: UUID) -> None:
    """As after a crash just before the end."""
    with begin(runtime.database) as connection:
        connection.execute(
            text("UPDATE steps SET state = 'queued' WHERE job_id = :id AND kind = 'prepare'"),
            {"id": job_id},
        )
    start_preparing(runtime, job_id)


def plan_of(database: Engine, job_id: UUID, where: str = "true") -> list[Any]:
    with begin(database) as connection:
        return [
            (row.idx, row.input)
            for row in connection.execute(
                text(f"""
                    SELECT idx, input FROM steps
                    WHERE job_id = :id AND kind = 'transcribe' AND {where} ORDER BY idx
                """),
                {"id": job_id},
            )
        ]


def objects(runtime: Runtime, job_id: UUID) -> set[str]:
    """The keys of a job's objects."""
    return {key for key in stored(runtime.storage) if str(job_id) in key}


def words_of(segments: list[Segment], channel: int) -> list[str]:
    return [word.text for found in segments if found.channel == channel for word in found.words]


def texts(first: int, n_words: int) -> list[str]:
    return [word_text(number) for number in range(first, first + n_words)]


def replace_options(options: ResolvedOptions, **changes: object) -> ResolvedOptions:
    return options.model_copy(update=changes)
