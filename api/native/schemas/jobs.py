"""Jobs, their progress and their events."""

from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field

from api.native.schemas import members
from shared.models.options import SpeakerOptions
from shared.speech.transcript.edits import Edits
from shared.speech.transcript.transcript import (
    Segment,
    Transcript,
    TranscriptHeader,
    TranscriptText,
)
from shared.store.jobs.read import JobView, Stage
from shared.store.jobs.waits import Waiting, WaitingCode
from shared.store.states import JobState


class Source(BaseModel):
    """The file as it was received, or is to be fetched."""

    name: str
    bytes: int | None = Field(description="null until it is fetched")
    sha256: str | None = Field(description="null until it is fetched")
    url: str | None = Field(
        description="where it is fetched from, without query and fragment; null: it was sent"
    )


class Progress(BaseModel):
    """A job's progress."""

    stage: Stage = Field(description="what is being done; of a job that has ended, how it has")
    fetched_bytes: int | None = Field(
        description="of a file that is fetched from its audio_url; null: nothing is fetched (yet)"
    )
    fetch_total_bytes: int | None = Field(
        description="of the file, as its server says; null where it does not"
    )
    chunks_done: int
    chunks_total: int = Field(description="chunks planned so far")
    chunks_known: bool = Field(description="whether chunks_total is final")
    audio_planned_s: float = Field(description="seconds of audio in the chunks planned so far")
    audio_done_s: float = Field(description="seconds of audio already transcribed")
    percent: float | None = Field(
        description="of the audio, transcribed; an estimate until chunks_known; never falls, and "
        "is 100 only when the job has succeeded; null while it cannot be estimated"
    )
    rtfx: float | None = Field(
        description="seconds of audio transcribed per second since the first chunk was begun, in "
        "this run of the job; null before one is done and after the job's end"
    )
    eta_s: float | None = Field(
        description="seconds until all audio is transcribed, at the present speed; an estimate "
        "of an estimate until chunks_known; null while rtfx is"
    )

    @classmethod
    def of(cls, view: JobView) -> Self:
        """Return the wire form of a job's progress."""
        return cls(
            stage=view.stage,
            fetched_bytes=view.fetched_bytes,
            fetch_total_bytes=view.fetch_total_bytes,
            chunks_done=view.chunks_done,
            chunks_total=view.chunks_total,
            chunks_known=view.plan_complete,
            audio_planned_s=round(view.audio_planned_s, 3),
            audio_done_s=round(view.audio_done_s, 3),
            percent=view.percent,
            rtfx=None if view.rtfx is None else round(view.rtfx, 2),
            eta_s=None if view.eta_s is None else round(view.eta_s, 1),
        )


class JobError(BaseModel):
    """Why a job failed."""

    code: str = Field(description="stable and machine-readable, such as 'unreadable_media'")
    detail: str

    @classmethod
    def of(cls, code: str | None, detail: str | None) -> Self | None:
        """Return the wire form of an error, None if there is no code."""
        return None if code is None else cls(code=code, detail=detail or "")


class WaitingFor(BaseModel):
    """What a job waits for that is not its turn."""

    code: WaitingCode = Field(
        description="model_worker: a worker for its model; cpu_worker: one that prepares and "
        "finishes; equal_job: the end of a job that is equal"
    )
    detail: str = Field(description="for a person: what it is")


class ProgressEvent(Progress):
    """An event `progress`: the job's progress, and what it waits for."""

    waiting_for: WaitingFor | None


class StateEvent(BaseModel):
    """An event `state`: the job has entered a state."""

    state: JobState
    at: datetime
    error: JobError | None = Field(description="why it failed")


class SegmentsEvent(BaseModel):
    """An event `segments`: what was said in a chunk that is transcribed.

    Chunks end in any order. The transcript of the job that succeeded is the authority: segments
    that reach over the border of two chunks are whole in it.
    """

    chunk: int = Field(description="its number, from 0")
    channel: int | None = Field(description="from 0; null where channels were mixed down")
    start: float = Field(description="seconds into the original file")
    end: float = Field(description="seconds into the original file")
    segments: list[Segment] = Field(
        description="of this chunk alone; ids count from 0, and the first separator is empty"
    )


class JobLinks(BaseModel):
    """Paths of the job, its transcript and its events."""

    self: str
    transcript: str
    events: str


class JobSummary(BaseModel):
    """A job without its transcript."""

    id: UUID
    state: JobState
    batch_id: UUID | None = Field(description="null: it was submitted alone")
    model: str
    language: str | None = Field(
        description="as requested, or the only one of the model; null: to be detected"
    )
    detected_language: str | None = Field(description="once it is known; null where none is asked")
    task: Literal["transcribe", "translate"]
    prompt: str | None
    hotwords: str | None
    vad: str = Field(description="voice activity detector")
    multichannel: bool
    speakers: SpeakerOptions | None = Field(
        description="how speakers are told apart; null: they are not"
    )
    multilingual: bool
    track: str | None = Field(description="the audio track that was asked for; null: any")
    strict: bool = Field(description="whether a file that is cut off or damaged is refused")
    edits: Edits | None = Field(
        description="numerals, mask and spelling as they were asked for; null: none were"
    )
    priority: int = Field(
        description="of jobs that wait, those with the higher priority go first; where a client "
        "waits (POST /transcribe) it is higher than any that a job may ask for"
    )
    cached: bool = Field(description="whether the transcript is that of an equal, earlier job")
    source: Source
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    run: int = Field(description="1, and one more for each retry")
    audio_deleted_at: datetime | None = Field(
        description="when the audio was given up: its time was up, or an equal job had been heard"
    )
    transcript_deleted_at: datetime | None = Field(
        description="when the transcript was removed: its time was up"
    )
    duration_s: float | None = Field(description="decoded length, known once prepared")
    waiting_for: WaitingFor | None = Field(
        description="what it cannot go on without; null: nothing, or its turn"
    )
    progress: Progress
    error: JobError | None
    metadata: dict[str, Any] = Field(description="as given with the job")
    metrics: dict[str, Any] = Field(
        description="seconds spent and RTFx; 'accuracy' where there is a reference, see Accuracy"
    )
    links: JobLinks

    @classmethod
    def of(cls, view: JobView, waiting: Waiting | None) -> Self:
        """Return the wire form of a job."""
        accuracy = {} if view.accuracy is None else {"accuracy": dict(view.accuracy)}
        path = f"/jobs/{view.id}"
        apart = {
            "source": Source(
                name=view.source_name,
                bytes=view.source_bytes,
                sha256=view.sha256,
                url=view.audio_url,
            ),
            "waiting_for": waiting,
            "progress": Progress.of(view),
            "error": JobError.of(view.error_code, view.error_detail),
            "metrics": {**view.metrics, **accuracy},
            "links": JobLinks(self=path, transcript=f"{path}/transcript", events=f"{path}/events"),
        }
        known = {**dict(view.options), **members(view), **apart}
        return cls.model_validate(known, from_attributes=True)


class Job(JobSummary):
    """A job, with its transcript once it has succeeded, and until that is deleted."""

    live_text: str | None = Field(
        default=None,
        description="of a live session that was saved: its finals as they were told, one a line",
    )
    transcript: TranscriptText | Transcript | TranscriptHeader | None = Field(
        default=None,
        description="with its paragraphs and segments where they were asked for (include=words), "
        "without its text where that was not (text=false)",
    )


class JobPage(BaseModel):
    """Some jobs, newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(description="the next page's cursor; null on the last page")
