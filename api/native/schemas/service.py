"""The service, its models and its workers."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field

from shared.store.states import StepKind
from shared.store.workers import ModelState, WorkerState

Sorted = Annotated[list[str], BeforeValidator(sorted)]


class ServiceInfo(BaseModel):
    """What runs here and where to go on."""

    name: str
    version: str
    links: dict[str, str]
    status: Literal["ok"] = "ok"
    service: str = Field(description="the same as name")
    model: str | None = Field(
        description="what a job gets that names no model and no language; null: none, or not known"
    )
    device: str | None = Field(description="of that model's worker; null: it has none")
    language: str | None = Field(description="the only one of that model; null: it has several")
    endpoints: dict[str, str] = Field(description="paths for a single file, and for probes")


class ModelInfo(BaseModel):
    """A model that jobs may name."""

    id: str
    description: str
    also_called: list[str] = Field(description="other names of it that jobs may use")
    engine: str
    languages: Sorted | None = Field(description="ISO 639 codes; null: any")
    preferred_for: Sorted = Field(
        description="languages whose jobs get this model unless they name one"
    )
    detects_language: bool = Field(description="whether it detects the language of speech")
    translates: bool = Field(description="whether it takes task 'translate': into English")
    takes_prompt: bool = Field(description="whether it takes 'prompt' and 'hotwords'")
    vad: str = Field(description="voice activity detector of jobs that name none")
    default: bool = Field(
        description="whether a job that names no model and no language gets it now"
    )
    state: ModelState = Field(
        description="of its workers the furthest: unloaded is one that was idle"
    )
    on_demand: bool = Field(
        description="whether jobs for it are taken while it has no worker: one is started for them"
    )


class DiarizerInfo(BaseModel):
    """A model that tells speakers apart. Jobs ask for that by 'speakers', not by its id."""

    id: str
    description: str
    engine: str
    default: bool = Field(description="whether a job that asks for speakers gets it now")
    state: ModelState = Field(
        description="of its workers the furthest: unloaded is one that was idle"
    )


class ModelList(BaseModel):
    """The models on offer."""

    models: list[ModelInfo]
    diarizers: list[DiarizerInfo] = Field(description="those that tell speakers apart")


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class HealthSummary(BaseModel):
    """The process answers, and whether there is a model to work with."""

    status: Literal["healthy", "initializing"] = Field(
        description="initializing: no worker is ready for any model, or has unloaded an idle one"
    )
    timestamp: float = Field(description="seconds since 1970-01-01 UTC")
    model_loaded: bool | None = Field(
        description="whether a worker has any model in memory; false, too, while all were idle "
        "and are unloaded; null: Postgres gives no answer"
    )
    language: str | None = Field(
        description="of speech: the only one of these and of the unloaded; null: several, or none"
    )


class Check(BaseModel):
    """The state of one dependency."""

    ok: bool
    detail: str | None = Field(default=None, description="what is wrong")


class Readiness(BaseModel):
    """Whether jobs can be taken, and which models have a worker to do them."""

    status: Literal["ready", "unavailable"]
    checks: dict[str, Check] = Field(description="postgres, redis and s3")
    models: dict[str, ModelState] = Field(
        description="by model id: the furthest of its workers: ready; loading; unloaded, as it was "
        "idle, so that the next job waits for it to be loaded; or absent"
    )
    timestamp: float = Field(description="seconds since 1970-01-01 UTC")
    model_loaded: bool | None = Field(description="as in /health")
    language: str | None = Field(description="as in /health")


class Startup(BaseModel):
    """Whether the database has a schema on which this version works."""

    status: Literal["started", "starting"]
    detail: str | None = None


class SandboxInfo(BaseModel):
    """What confines the processes in which a worker has media decoded."""

    holds: list[str] = Field(
        description="measures: rlimits, no_new_privileges, capabilities, seccomp, landlock, "
        "namespaces, and uid where the worker runs as root"
    )
    lacks: dict[str, str] = Field(description="by measure: why it does not hold")


class WorkerInfo(BaseModel):
    """A living worker."""

    id: str
    role: str
    model: str | None
    state: WorkerState = Field(
        description="unloaded: its model was idle, and is loaded for the next work; drained: it "
        "claims nothing until it is resumed, and finishes its steps"
    )
    device: str
    dtype: str | None = Field(description="what a model worker's device computes in")
    slots: int = Field(
        description="claims it works on at once, of one step each, or of a batch of chunks"
    )
    version: str
    load_s: float | None = Field(description="seconds its model took to load, the last time")
    warm_up_s: float | None = Field(description="seconds its model's first inference took then")
    started_at: datetime
    last_seen_at: datetime
    sandbox: SandboxInfo | None = Field(
        description="of a worker that decodes media; null: of another, or not known yet"
    )
    failing: list[str] = Field(
        description="what every step of a kind fails with here, as long as none has succeeded"
    )


class WorkerStep(BaseModel):
    """A worker's current step."""

    job_id: UUID
    kind: StepKind
    idx: int = Field(description="of a chunk or a delivery: its number")
    attempt: int
    since: datetime


class WorkerDetail(WorkerInfo):
    """A living worker, and its current steps."""

    steps: list[WorkerStep] = Field(description="of your own jobs")
    other_steps: int = Field(description="how many of other tenants' jobs")


class ModelBacklog(BaseModel):
    """Your own jobs of one model that wait or run."""

    model: str
    jobs: int
    audio_s: float = Field(
        description="of their audio, what is not transcribed; nothing is known of jobs that are "
        "not prepared"
    )


class WorkerList(BaseModel):
    """The living workers."""

    workers: list[WorkerDetail]
    backlog: list[ModelBacklog] = Field(description="by model, the longest first")
    flower_url: str | None = Field(description="where people reach Flower; null: it is not said")


class QueueLoad(BaseModel):
    """The steps of a queue that wait or run."""

    queue: str
    queued_steps: int
    running_steps: int
    queued_audio_s: float = Field(description="seconds of audio in the chunks that wait")
    running_audio_s: float = Field(description="seconds of audio in the chunks that run")
    oldest_due_s: float = Field(description="for how long the oldest step is due; 0: none is")


class LiveModel(BaseModel):
    """The model of live sessions that name none."""

    model_size: str = Field(description="its id")
    device: str | None = Field(description="of a worker of its; null: there is none")
    compute_type: str | None = Field(description="of a worker of its; null: not known")
    ready: bool = Field(description="whether a worker takes live requests for it")


class LiveQueue(BaseModel):
    """Live requests for that model."""

    depth: int = Field(description="how many no worker has taken")
    avg_partial_ms: float = Field(description="mean time from a partial request to its answer")
    avg_final_ms: float = Field(description="mean time from a final request to its answer")
    estimated_server_total_ms: float = Field(description="the sum of the two")
    accepting_requests: bool = Field(description="whether a session could begin now")
    total_requests: int = Field(description="of this process, since its start")
    rejected_requests: int = Field(description="sessions and partials refused since then")


class LiveSessionCount(BaseModel):
    """Live sessions of this process."""

    active: int
    max: int


class LiveCapacity(BaseModel):
    """What that model's workers can do."""

    estimated_max_concurrent: int | None = Field(
        description="requests, one after the other, that have their answers within the limit for "
        "new sessions; null: not known"
    )
    current_load_percent: float | None = Field(description="the queue's depth in percent of that")


class Backlog(BaseModel):
    """The jobs of all tenants that wait or run."""

    jobs: int
    wait_s: float | None = Field(
        description="how long a new job would wait, by how fast jobs have ended in the last five "
        "minutes; null: too few have, or no model worker is ready"
    )


class Status(Readiness):
    """An overview for people."""

    accepting_requests: bool = Field(description="whether a live session could begin now")
    model: LiveModel | None = Field(description="null: no model is there to choose")
    queue: LiveQueue
    sessions: LiveSessionCount
    capacity: LiveCapacity
    version: str
    uptime_s: float
    workers: list[WorkerInfo] | None = Field(
        default=None, description="null: not known, as Postgres is away"
    )
    jobs: dict[str, int] | None = Field(default=None, description="by state; null: not known")
    queues: list[QueueLoad] | None = Field(default=None, description="null: not known")
    backlog: Backlog | None = Field(default=None, description="null: not known")
