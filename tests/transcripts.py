"""Transcripts as tests look at them: whole."""

from uuid import UUID

from sqlalchemy import Engine

from shared.speech.paragraphs import make_paragraphs
from shared.speech.transcript import Transcript, join_segments
from shared.store.transcripts import open_transcript


def get_transcript(engine: Engine, tenant: str, job_id: UUID) -> Transcript:
    """Return the whole transcript of a job that succeeded; as ``open_transcript``."""
    stored = open_transcript(engine, tenant, job_id)
    segments = list(stored.segments)
    running_text = "".join(join_segments(segments))
    paragraphs = list(make_paragraphs(segments))
    return Transcript(
        **dict(stored.header), text=running_text, paragraphs=paragraphs, segments=segments
    )
