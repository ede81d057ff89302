"""A job as the server describes it, as far as the command line shows it."""

from pydantic import BaseModel


class Reason(BaseModel):
    """Why something is so: a warning, an error, or what a job waits for."""

    code: str = ""
    detail: str


class JobProgress(BaseModel):
    """How far a job is."""

    stage: str = ""
    chunks_done: int = 0
    chunks_total: int = 0
    """Planned so far: more come while the audio is being decoded."""
    percent: float | None = None
    """Of the audio, transcribed; None while the server cannot tell."""
    rtfx: float | None = None
    eta_s: float | None = None


class TranscriptView(BaseModel):
    """What a transcript says of itself."""

    warnings: tuple[Reason, ...] = ()


class JobView(BaseModel):
    """What ``GET /jobs/{id}`` says of a job; only ``id`` and ``state`` must be there."""

    id: str
    state: str
    progress: JobProgress = JobProgress()
    duration_s: float | None = None
    """Length of the audio; None until it is decoded."""
    cached: bool = False
    """Whether the transcript is that of an equal, earlier job."""
    waiting_for: Reason | None = None
    """What it cannot go on without; None: nothing, or its turn."""
    transcript: TranscriptView | None = None
    error: Reason | None = None
