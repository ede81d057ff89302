"""The answers of the API, as its OpenAPI document shows them."""

from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field

from shared.catalogue import Model
from shared.jobs import JobView
from shared.tables import JobState
from shared.transcript import Transcript


class ServiceInfo(BaseModel):
    """What runs here and where to go on."""

    name: str
    version: str
    links: dict[str, str]


class Source(BaseModel):
    """The file as it was received."""

    name: str
    bytes: int
    sha256: str


class Progress(BaseModel):
    """How far a job is."""

    stage: str = Field(description="queued, preparing, transcribing, finishing or done")
    chunks_done: int
    chunks_total: int = Field(description="chunks planned so far")
    chunks_known: bool = Field(description="whether chunks_total is final")
    audio_done_s: float = Field(description="seconds of audio already transcribed")


class JobError(BaseModel):
    """Why a job failed."""

    code: str = Field(description="stable and machine-readable, such as 'unreadable_media'")
    detail: str


class JobLinks(BaseModel):
    """Where the job and its transcript are."""

    self: str
    transcript: str


class JobSummary(BaseModel):
    """A job without its transcript."""

    id: UUID
    state: JobState
    model: str
    language: str | None = Field(description="as requested; null: detected by the model")
    source: Source
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_s: float | None = Field(description="decoded length, known once prepared")
    progress: Progress
    error: JobError | None
    metrics: dict[str, Any]
    links: JobLinks

    @classmethod
    def of(cls, view: JobView) -> Self:
        """Return the wire form of a job."""
        error = None
        if view.error_code is not None:
            error = JobError(code=view.error_code, detail=view.error_detail or "")
        return cls(
            id=view.id,
            state=view.state,
            model=view.model,
            language=view.language,
            source=Source(name=view.source_name, bytes=view.source_bytes, sha256=view.sha256),
            created_at=view.created_at,
            started_at=view.started_at,
            finished_at=view.finished_at,
            duration_s=view.duration_s,
            progress=Progress(
                stage=view.stage,
                chunks_done=view.chunks_done,
                chunks_total=view.chunks_total,
                chunks_known=view.plan_complete,
                audio_done_s=view.audio_done_s,
            ),
            error=error,
            metrics=dict(view.metrics),
            links=JobLinks(self=f"/jobs/{view.id}", transcript=f"/jobs/{view.id}/transcript"),
        )


class Job(JobSummary):
    """A job, with its transcript once it has succeeded."""

    transcript: Transcript | None = None


class JobPage(BaseModel):
    """Some jobs, newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(description="the next page's cursor; null on the last page")


class ModelInfo(BaseModel):
    """A model that jobs may name."""

    id: str
    description: str
    engine: str
    languages: list[str] | None = Field(description="ISO 639 codes; null: any")
    vad: str = Field(description="voice activity detector of jobs that name none")
    default: bool = Field(description="whether jobs that name no model get this one")
    alive: bool = Field(description="whether a worker is there; without one its jobs wait")

    @classmethod
    def of(cls, model: Model, *, default: bool, alive: bool) -> Self:
        """Return the wire form of a catalogue entry."""
        return cls(
            id=model.id,
            description=model.description,
            engine=model.engine,
            languages=None if model.languages is None else sorted(model.languages),
            vad=model.vad,
            default=default,
            alive=alive,
        )


class ModelList(BaseModel):
    """The models on offer."""

    models: list[ModelInfo]


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Check(BaseModel):
    """The state of one dependency."""

    ok: bool
    detail: str | None = Field(default=None, description="what is wrong")


class Readiness(BaseModel):
    """Whether jobs can be taken, and which models have a worker to do them."""

    status: Literal["ready", "unavailable"]
    checks: dict[str, Check] = Field(description="postgres, redis and s3")
    models: dict[str, bool] = Field(description="by model id: whether a worker is alive")


class Startup(BaseModel):
    """Whether the database has this version's schema."""

    status: Literal["started", "starting"]
    detail: str | None = None


class WorkerInfo(BaseModel):
    """A living worker."""

    id: str
    role: str
    model: str | None
    device: str
    slots: int
    version: str
    started_at: datetime
    last_seen_at: datetime


class QueueDepth(BaseModel):
    """Steps of a queue in one state."""

    queue: str
    state: str
    steps: int


class Status(Readiness):
    """An overview for people."""

    version: str
    uptime_s: float
    workers: list[WorkerInfo] | None = Field(
        default=None, description="null: not known, as Postgres is away"
    )
    jobs: dict[str, int] | None = Field(default=None, description="by state; null: not known")
    queues: list[QueueDepth] | None = Field(default=None, description="null: not known")
