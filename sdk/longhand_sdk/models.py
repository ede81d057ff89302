"""What the server answers, as far as this package carries it. Unknown members are ignored.

Times are seconds into the original file. Members that a model may lack have defaults, so that
answers of other versions can be read.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

JobState = Literal["queued", "running", "succeeded", "failed", "canceled"]
TERMINAL: frozenset[JobState] = frozenset({"succeeded", "failed", "canceled"})
"""States of jobs that have ended."""


class Model(BaseModel):
    """The base of all models."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Reason(Model):
    """Why something is so: an error, a warning, or what a job waits for."""

    code: str = ""
    detail: str = ""


class Word(Model):
    """A word and when it was spoken."""

    text: str
    separator: str = " "
    """What stands before it in the text."""
    start: float
    end: float
    confidence: float | None = None
    speaker: int | None = None
    """Id of one of the transcript's speakers; None where nobody is known."""
    overlap: bool = False
    """Whether another speaker talks at the same time."""


class RecognizedVoice(Model):
    """The voice that a speaker was recognized by."""

    voice_id: str
    similarity: float = 0.0


class Speaker(Model):
    """Somebody who speaks in a recording."""

    id: int
    name: str = ""
    speech_s: float = 0.0
    recognized: RecognizedVoice | None = None


class Segment(Model):
    """A sentence, or a part of a long one."""

    id: int
    start: float
    end: float
    text: str
    separator: str = " "
    confidence: float | None = None
    language: str | None = None
    channel: int | None = None
    speaker: int | None = None
    words: tuple[Word, ...] = ()


class Paragraph(Model):
    """Segments that follow each other, of one channel and speaker, without a long pause."""

    start: float
    end: float
    text: str
    channel: int | None = None
    speaker: int | None = None
    first_segment: int
    last_segment: int


class _AnyTranscript(Model):
    language: str | None = None
    language_probability: float | None = None
    channels: int | None = None
    speakers: tuple[Speaker, ...] | None = None
    """None where they were not asked for."""
    warnings: tuple[Reason, ...] = ()
    speech_s: float = 0.0
    text: str = ""
    paragraphs: tuple[Paragraph, ...] = ()
    segments: tuple[Segment, ...] = ()

    @property
    def words(self) -> tuple[Word, ...]:
        """All words, in the order of the segments."""
        return tuple(word for segment in self.segments for word in segment.words)


class Transcript(_AnyTranscript):
    """The result of a job."""

    partial: Literal[False] = False
    duration_s: float = 0.0
    skipped_s: float = 0.0


class MissingSpan(Model):
    """Audio that is not transcribed."""

    start: float
    end: float


class PartialTranscript(_AnyTranscript):
    """What a job has transcribed that has not succeeded (yet)."""

    partial: Literal[True] = True
    duration_s: float | None = None
    missing_s: float = 0.0
    missing: tuple[MissingSpan, ...] = ()


class JobProgress(Model):
    """How far a job is."""

    stage: str = ""
    fetched_bytes: int | None = None
    fetch_total_bytes: int | None = None
    chunks_done: int = 0
    chunks_total: int = 0
    chunks_known: bool = False
    audio_planned_s: float = 0.0
    audio_done_s: float = 0.0
    percent: float | None = None
    """Of the audio, transcribed; None while the server cannot tell."""
    rtfx: float | None = None
    eta_s: float | None = None


class Source(Model):
    """The file as it was received, or is to be fetched."""

    name: str = ""
    bytes: int | None = None
    sha256: str | None = None
    url: str | None = None


class JobInfo(Model):
    """A job as it was when it was asked for."""

    id: str
    state: JobState
    batch_id: str | None = None
    model: str = ""
    language: str | None = None
    detected_language: str | None = None
    task: str = "transcribe"
    priority: int = 0
    cached: bool = False
    source: Source = Source()
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    run: int = 1
    audio_deleted_at: datetime | None = None
    transcript_deleted_at: datetime | None = None
    duration_s: float | None = None
    waiting_for: Reason | None = None
    progress: JobProgress = JobProgress()
    error: Reason | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    live_text: str | None = None
    transcript: Transcript | None = None

    @property
    def ended(self) -> bool:
        """Whether it has succeeded, failed or been canceled."""
        return self.state in TERMINAL


class JobPage(Model):
    """Some jobs, newest first."""

    jobs: tuple[JobInfo, ...]
    next_cursor: str | None = None


class StateEvent(Model):
    """A job has entered a state."""

    id: str = ""
    """To resume after; of the stream, not of the server's JSON."""
    state: JobState
    at: datetime
    error: Reason | None = None


class SegmentsEvent(Model):
    """What was said in a chunk that is transcribed; chunks end in any order."""

    id: str = ""
    chunk: int
    channel: int | None = None
    start: float
    end: float
    segments: tuple[Segment, ...]


class ProgressEvent(JobProgress):
    """How far the job is now; no part of its history, so it has no id."""

    waiting_for: Reason | None = None


Event = StateEvent | SegmentsEvent | ProgressEvent


class Accuracy(Model):
    """Error rates of a transcript against what was really said."""

    wer: float
    cer: float
    words: int
    word_errors: int
    characters: int
    character_errors: int


class SearchMatch(Model):
    """Words that were asked for, where they were said."""

    text: str
    start: float
    end: float


class SearchHit(Model):
    """A segment that has all that was asked for."""

    job_id: str
    source_name: str
    segment: int
    start: float
    end: float
    channel: int | None = None
    text: str
    before: str | None = None
    after: str | None = None
    matches: tuple[SearchMatch, ...] = ()


class SearchPage(Model):
    """Some hits."""

    hits: tuple[SearchHit, ...]
    next_cursor: str | None = None


class ModelInfo(Model):
    """A model that jobs may name."""

    id: str
    description: str
    also_called: tuple[str, ...] = ()
    engine: str
    languages: tuple[str, ...] | None = None
    preferred_for: tuple[str, ...] = ()
    detects_language: bool
    translates: bool
    takes_prompt: bool
    vad: str
    default: bool
    state: str
    on_demand: bool


class DiarizerInfo(Model):
    """A model that tells speakers apart."""

    id: str
    description: str
    engine: str
    default: bool
    state: str


class ModelList(Model):
    """The models on offer."""

    models: tuple[ModelInfo, ...]
    diarizers: tuple[DiarizerInfo, ...] = ()


class WorkerStep(Model):
    """What a worker is at."""

    job_id: str
    kind: str
    idx: int
    attempt: int
    since: datetime


class WorkerInfo(Model):
    """A living worker."""

    id: str
    role: str
    model: str | None = None
    state: str
    device: str
    dtype: str | None = None
    slots: int
    version: str
    load_s: float | None = None
    warm_up_s: float | None = None
    started_at: datetime
    last_seen_at: datetime
    failing: tuple[str, ...] = ()
    steps: tuple[WorkerStep, ...] = ()
    other_steps: int = 0


class ModelBacklog(Model):
    """One's own jobs of one model that wait or run."""

    model: str
    jobs: int
    audio_s: float


class WorkerList(Model):
    """The living workers, and what waits for them."""

    workers: tuple[WorkerInfo, ...]
    backlog: tuple[ModelBacklog, ...]
    flower_url: str | None = None


class Webhook(Model):
    """A URL that is told of jobs' ends."""

    id: str
    url: str
    description: str = ""
    events: tuple[str, ...] = ()
    enabled: bool
    disabled_reason: str | None = None
    failing_since: datetime | None = None
    old_secret_until: datetime | None = None
    created_at: datetime


class ShareLink(Model):
    """What opens a job's transcript and audio in a browser, without a key."""

    id: str
    created_at: datetime
    expires_at: datetime


class ShareLinkWithUrl(ShareLink):
    """A share link and its URL, which the server shows this once, and ``repr`` does not."""

    url: str = Field(repr=False)


class ShareLinkList(Model):
    """A job's valid share links, the oldest first."""

    shares: tuple[ShareLink, ...]


class WebhookWithSecret(Webhook):
    """A webhook and its secret, which the server shows this once, and ``repr`` does not."""

    secret: str = Field(repr=False)


class WebhookList(Model):
    """All webhooks, the oldest first."""

    webhooks: tuple[Webhook, ...]


class WebhookTest(Model):
    """How a test event fared."""

    delivery_id: str
    delivered: bool
    status_code: int | None = None
    latency_ms: float
    error: str | None = None


class DeliveryAttempt(Model):
    """One attempt to deliver an event."""

    at: datetime
    status_code: int | None = None
    latency_ms: float
    error: str | None = None


class DeliveredEvent(Model):
    """What is delivered."""

    id: str
    type: str
    body: str


class Delivery(Model):
    """An event on its way to one webhook."""

    id: str
    state: str
    error: str | None = None
    endpoint_id: str
    url: str
    face: str
    job_id: str | None = None
    event: DeliveredEvent
    attempts: tuple[DeliveryAttempt, ...] = ()
    next_attempt_at: datetime | None = None
    created_at: datetime
    finished_at: datetime | None = None


class DeliveryPage(Model):
    """Some deliveries, newest first."""

    deliveries: tuple[Delivery, ...]
    next_cursor: str | None = None


class WebhookEvent(Model):
    """A verified event that the server has sent to a webhook."""

    id: str
    """The same whenever the event is sent again."""
    type: str
    timestamp: datetime
    data: dict[str, Any]
    """``job_id``, ``state``, ``result_url``, ``metadata``; of a batch ``batch_id``, ``counts``."""
