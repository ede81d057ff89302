"""The answers of the API, as its OpenAPI document shows them."""

from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.accuracy import MAX_REFERENCE_CHARS, Accuracy
from shared.catalogue import Model
from shared.jobs import JobView
from shared.tables import JobState
from shared.transcript import Transcript
from shared.workers import ModelState, WorkerState


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
    language: str | None = Field(
        description="as requested, or the only one of the model; null: to be detected"
    )
    detected_language: str | None = Field(description="once it is known; null where none is asked")
    task: Literal["transcribe", "translate"]
    prompt: str | None
    hotwords: str | None
    vad: str = Field(description="voice activity detector")
    multichannel: bool
    multilingual: bool
    cached: bool = Field(description="whether the transcript is that of an equal, earlier job")
    source: Source
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_s: float | None = Field(description="decoded length, known once prepared")
    progress: Progress
    error: JobError | None
    metrics: dict[str, Any] = Field(
        description="seconds spent and RTFx; 'accuracy' where there is a reference, see Accuracy"
    )
    links: JobLinks

    @classmethod
    def of(cls, view: JobView) -> Self:
        """Return the wire form of a job."""
        options = view.options
        metrics = dict(view.metrics)
        if view.accuracy is not None:
            metrics["accuracy"] = dict(view.accuracy)
        error = None
        if view.error_code is not None:
            error = JobError(code=view.error_code, detail=view.error_detail or "")
        return cls(
            id=view.id,
            state=view.state,
            model=view.model,
            language=options.language,
            detected_language=view.detected_language,
            task=options.task,
            prompt=options.prompt,
            hotwords=options.hotwords,
            vad=options.vad,
            multichannel=options.multichannel,
            multilingual=options.multilingual,
            cached=view.cached,
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
            metrics=metrics,
            links=JobLinks(self=f"/jobs/{view.id}", transcript=f"/jobs/{view.id}/transcript"),
        )


class Job(JobSummary):
    """A job, with its transcript once it has succeeded."""

    transcript: Transcript | None = None


class JobPage(BaseModel):
    """Some jobs, newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(description="the next page's cursor; null on the last page")


class NewReference(BaseModel):
    """What was really said in a job's audio."""

    model_config = ConfigDict(extra="forbid")

    reference: str = Field(description=f"at most {MAX_REFERENCE_CHARS} characters")


class PooledAccuracy(Accuracy):
    """Error rates of a model: the errors of all its jobs, divided by the size of all references."""

    model: str
    language: str | None = Field(description="of the speech; null: several, or not known")
    task: str
    jobs: int = Field(description="jobs with a reference")
    audio_s: float


class CacheStats(BaseModel):
    """How often a transcript was there already."""

    computed: int = Field(description="jobs that succeeded by computing their transcript")
    cached: int = Field(description="jobs that succeeded with an equal job's transcript")
    hit_rate: float | None = Field(description="cached / (computed + cached); null: no jobs yet")
    audio_saved_s: float = Field(description="audio of the cached jobs, which no model heard again")


class AccuracyStats(BaseModel):
    """What references say of the models, and what the cache has saved."""

    models: list[PooledAccuracy]
    cache: CacheStats


class ModelInfo(BaseModel):
    """A model that jobs may name."""

    id: str
    description: str
    engine: str
    languages: list[str] | None = Field(description="ISO 639 codes; null: any")
    preferred_for: list[str] = Field(
        description="languages whose jobs get this model unless they name one"
    )
    detects_language: bool = Field(description="whether it tells which language it hears")
    translates: bool = Field(description="whether it takes task 'translate': into English")
    takes_prompt: bool = Field(description="whether it takes 'prompt' and 'hotwords'")
    vad: str = Field(description="voice activity detector of jobs that name none")
    default: bool = Field(description="whether jobs that name no model get this one")
    state: ModelState = Field(
        description="whether a worker is ready for it, loading it, or absent; jobs wait for one"
    )

    @classmethod
    def of(cls, model: Model, *, default: bool, state: ModelState) -> Self:
        """Return the wire form of a catalogue entry."""
        return cls(
            id=model.id,
            description=model.description,
            engine=model.engine,
            languages=None if model.languages is None else sorted(model.languages),
            preferred_for=sorted(model.preferred_for),
            detects_language=model.detects_language,
            translates=model.translates,
            takes_prompt=model.takes_prompt,
            vad=model.vad,
            default=default,
            state=state,
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
    models: dict[str, ModelState] = Field(
        description="by model id: whether a worker is ready for it, loading it, or absent"
    )


class Startup(BaseModel):
    """Whether the database has this version's schema."""

    status: Literal["started", "starting"]
    detail: str | None = None


class WorkerInfo(BaseModel):
    """A living worker."""

    id: str
    role: str
    model: str | None
    state: WorkerState
    device: str
    dtype: str | None = Field(description="what a model worker's device computes in")
    slots: int
    version: str
    load_s: float | None = Field(description="seconds its model took to load")
    warm_up_s: float | None = Field(description="seconds its model's first inference took")
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
