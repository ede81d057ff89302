"""Equal jobs for tests, and their transcript, without any worker."""

from uuid import UUID

from sqlalchemy import Engine

from harness.jobs.job_store import MANIFEST, claim, new_job, prepare, transcribe
from shared.models.options import ResolvedOptions
from shared.speech.transcript.transcript import Segment, TranscriptHeader
from shared.store import steps
from shared.store.jobs.create import create_job
from shared.store.steps import Folded


def submit(
    database: Engine,
    *,
    fingerprint: str | None = "f" * 64,
    tenant: str = "default",
    language: str | None = None,
    reference: str | None = None,
    live_text: str | None = None,
) -> UUID:
    job = new_job(
        tenant=tenant,
        options=ResolvedOptions(model="oracle", language=language, vad="off"),
        fingerprint=fingerprint,
        reference=reference,
        live_text=live_text,
    )
    create_job(database, job, max_attempts=2)
    return job.id


def store(database: Engine, job_id: UUID, *said: str) -> None:
    """Complete ``finish``: the transcript says 'hello there', or what is given, by segments."""
    texts = said or ("hello there",)
    steps.complete_finish(
        database,
        claim(database, job_id, "finish"),
        Folded(
            segments=[
                Segment(id=idx, start=idx, end=idx + 1, text=words, words=[])
                for idx, words in enumerate(texts)
            ],
            header=lambda: TranscriptHeader(language="en", duration_s=2, speech_s=1, skipped_s=1),
            metrics=dict,
            manifest=lambda: MANIFEST,
        ),
    )


def compute(database: Engine, job_id: UUID, *said: str, until: str = "end") -> None:
    """Take a job to its transcript, or to before its ``finish``."""
    prepare(database, job_id, 1)
    transcribe(database, claim(database, job_id, "transcribe"))
    if until == "end":
        store(database, job_id, *said)
