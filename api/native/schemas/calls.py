"""``POST /transcribe``: the transcript as the answer."""

from uuid import UUID

from pydantic import BaseModel, Field

from api.native.schemas.accuracy import CacheUse
from shared.speech.transcript.transcript import TranscriptWarning


class Transcription(BaseModel):
    """A transcript, and what it took to make it."""

    text: str
    latency_sec: float = Field(description="from the head of the request to this answer")
    cache_hit: bool = Field(
        description="whether the transcript was made for another request with the same file and "
        "options, before this one or at the same time"
    )
    chunks_processed: int = Field(description="parts in which a model has heard the speech")
    wer: float | None = Field(
        description="word errors per word of the reference; null: no reference was given, or the "
        "texts are too long to be compared at once, and the job has its accuracy soon"
    )
    cer: float | None = Field(description="the same for characters")
    cache_stats: CacheUse = Field(
        description="of your calls to this process since its start; GET /accuracy/stats has those "
        "of all jobs"
    )
    gpu_memory_used_mb: float | None = Field(
        description="the most that the model's process held of a GPU's memory, in MB of 1,000,000 "
        "bytes; null: not known, or no GPU was used for this answer"
    )
    job_id: UUID = Field(description="of GET /jobs/{job_id}, which has all that is known of it")
    model: str
    language: str | None = Field(description="ISO 639 code of the speech, given or detected")
    duration_s: float = Field(description="decoded length of the audio")
    warnings: list[TranscriptWarning] = Field(
        description="reasons to read it with care; none: all of the file was heard"
    )
