"""A client of Longhand, self-hosted speech to text."""

from longhand_sdk.async_client import AsyncJob, AsyncLonghand
from longhand_sdk.client import Job, Longhand
from longhand_sdk.errors import (
    APIError,
    ConnectionFailed,
    JobCanceled,
    JobFailed,
    LonghandError,
    SignatureError,
    WaitTimeout,
)
from longhand_sdk.files import Progress
from longhand_sdk.models import (
    Event,
    JobInfo,
    PartialTranscript,
    ProgressEvent,
    Segment,
    SegmentsEvent,
    StateEvent,
    Transcript,
    WebhookEvent,
    Word,
)
from longhand_sdk.version import __version__

__all__ = [
    "APIError",
    "AsyncJob",
    "AsyncLonghand",
    "ConnectionFailed",
    "Event",
    "Job",
    "JobCanceled",
    "JobFailed",
    "JobInfo",
    "Longhand",
    "LonghandError",
    "PartialTranscript",
    "Progress",
    "ProgressEvent",
    "Segment",
    "SegmentsEvent",
    "SignatureError",
    "StateEvent",
    "Transcript",
    "WaitTimeout",
    "WebhookEvent",
    "Word",
    "__version__",
]
