"""Every error that Longhand raises on purpose; their HTTP statuses are in ``api.problems``.

    LonghandError
    ├── PermanentError          retrying cannot help: the step, and with it the job, fails at once
    │   ├── MediaError          the audio itself is at fault
    │   │   ├── UnreadableMedia     no decoder understands it, or it is damaged
    │   │   ├── TruncatedMedia      it ends before its own header says it does
    │   │   ├── NoAudioTrack        a container (a video, say) without any sound
    │   │   ├── AudioTooLong        more decoded audio than the limit allows
    │   │   └── AudioOutOfBounds    sample rate or channel count outside what we decode
    │   ├── ModelError          the model cannot be loaded or used
    │   ├── NoWorker            no worker takes steps of this kind or model
    │   └── DeliveryVoid        the delivery's webhook is disabled or deleted
    ├── TransientError          a later attempt may succeed: the step is retried
    │   ├── Outage              a service that all jobs need is away: costs the step no attempt
    │   │   ├── DatabaseUnavailable
    │   │   │   ├── CommitUncertain     the connection broke during the commit itself
    │   │   │   ├── DatabaseBusy        it gave up this transaction, or has no room for it now
    │   │   │   ├── DatabaseFull        its disk is full
    │   │   │   ├── DatabaseReadOnly    a standby, or set so by its operator
    │   │   │   ├── SchemaMissing       this version's migrations have not been run
    │   │   │   └── DatabaseUnfit       a newer version's schema, or an encoding other than UTF8
    │   │   ├── StorageUnavailable
    │   │   └── BrokerUnavailable
    │   ├── OutboundFailed          an address that a client named gave no answer
    │   ├── TooManyUploads
    │   ├── TooManyStreams
    │   ├── DeviceOutOfMemory
    │   ├── EngineFailed            the engine broke down; its process must be restarted
    │   └── InternalError           a bug of ours; twice in the same way fails the step
    ├── LeaseLost               another worker owns the step now; this one's result is void
    ├── WorkerStopping          the worker was told to stop; the step goes back to its queue
    └── RequestError            what a caller asked for cannot be done as asked
        ├── InvalidRequest
        ├── UnknownModel
        ├── ModelNotServed
        ├── UnsupportedLanguage
        ├── UnsupportedOption
        ├── UnknownFormat
        ├── EmptyFile
        ├── UploadTooLarge
        ├── UploadStalled
        ├── UnsupportedMediaType
        ├── JobNotFound
        ├── JobEnded
        ├── JobNotRetryable
        ├── AudioGone
        ├── TranscriptNotReady
        ├── TranscriptDeleted
        ├── ForbiddenUrl
        ├── WebhookNotFound
        ├── TooManyWebhooks
        ├── DeliveryNotFound
        └── DeliveryNotReplayable

Retry decisions read the class, never the text. ``code`` is stable: it is stored with failed jobs
and sent to clients. The message is one sentence for a person, without secrets and internal paths.
"""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar


class LonghandError(Exception):
    """The base of all errors raised on purpose."""

    code: ClassVar[str] = "error"


class PermanentError(LonghandError):
    """Trying again would give the same result."""

    code = "permanent_error"


class MediaError(PermanentError):
    """The submitted audio cannot be transcribed."""

    code = "media_error"


class UnreadableMedia(MediaError):
    """Not audio, a format we do not open, or damaged beyond decoding."""

    code = "unreadable_media"


class TruncatedMedia(MediaError):
    """The file ends before its own header says it does."""

    code = "truncated_media"


class NoAudioTrack(MediaError):
    """A readable container that holds no audio stream."""

    code = "no_audio_track"


class AudioTooLong(MediaError):
    """More decoded audio than ``max_duration_s`` allows."""

    code = "audio_too_long"


class AudioOutOfBounds(MediaError):
    """A sample rate or a channel count outside the supported range."""

    code = "audio_out_of_bounds"


class ModelError(PermanentError):
    """A model that cannot be loaded, or that cannot do what its catalogue entry says."""

    code = "model_error"


class NoWorker(PermanentError):
    """A step waited for its limit, and no worker takes steps of its kind or model."""

    code = "no_worker"


class DeliveryVoid(PermanentError):
    """A webhook delivery that is not wanted any more: its webhook is disabled or deleted."""

    code = "delivery_void"


class TransientError(LonghandError):
    """A later attempt may succeed."""

    code = "transient_error"


class Outage(TransientError):
    """A service that all jobs need is away; the step is not at fault."""

    code = "outage"


class DatabaseUnavailable(Outage):
    """Postgres cannot be reached."""

    code = "database_unavailable"


class CommitUncertain(DatabaseUnavailable):
    """The connection broke during the commit: the transaction was written as a whole or not."""


class DatabaseBusy(DatabaseUnavailable):
    """Postgres gave up the transaction (a deadlock, a conflict, a limit) or lacks resources."""

    code = "database_busy"


class DatabaseFull(DatabaseUnavailable):
    """The disk of Postgres is full: reads go on, writes do not."""

    code = "database_full"


class DatabaseReadOnly(DatabaseUnavailable):
    """Postgres takes no writes: it is a standby, or its operator has set it so."""

    code = "database_read_only"


class SchemaMissing(DatabaseUnavailable):
    """The database lacks this version's schema or a part of it: it must be migrated first."""

    code = "schema_missing"


class DatabaseUnfit(DatabaseUnavailable):
    """A database that this version cannot use: waiting does not help."""

    code = "database_unfit"


class StorageUnavailable(Outage):
    """The object store cannot be reached or answers with server errors."""

    code = "storage_unavailable"


class BrokerUnavailable(Outage):
    """Redis cannot be reached."""

    code = "broker_unavailable"


class OutboundFailed(TransientError):
    """An address that a client named gave no answer."""

    code = "outbound_failed"


class TooManyUploads(TransientError):
    """This process receives as many uploads as it may at once."""

    code = "too_many_uploads"


class TooManyStreams(TransientError):
    """This process serves as many watchers of jobs as it may at once."""

    code = "too_many_streams"


class DeviceOutOfMemory(TransientError):
    """The inference device ran out of memory."""

    code = "device_out_of_memory"


class EngineFailed(TransientError):
    """The engine broke down; whether it can go on is not known."""

    code = "engine_failed"


class InternalError(TransientError):
    """A bug of ours. The step is retried; if it meets the same bug again, it fails.

    ``fingerprint`` tells bugs apart: the exception's class and the place in the code.
    """

    code = "internal_error"

    def __init__(self, message: str, fingerprint: str = "") -> None:
        super().__init__(message)  # unpickling calls this with the message, then sets the rest
        self.fingerprint = fingerprint


class LeaseLost(LonghandError):
    """The step's lease expired, or its job ended, while this worker ran it."""

    code = "lease_lost"


class WorkerStopping(LonghandError):
    """The worker was told to stop while it ran a step that would take longer than it may."""

    code = "worker_stopping"


class RequestError(LonghandError):
    """A request that cannot be served as asked."""

    code = "request_error"
    members: Mapping[str, Any] = {}
    """What programs are told beside the code; JSON values."""


class InvalidRequest(RequestError):
    """A malformed body, parameter or cursor."""

    code = "invalid_request"


class UnknownModel(RequestError):
    """A model id that the catalogue does not have."""

    code = "unknown_model"


class ModelNotServed(RequestError):
    """No worker serves the model, so its job would wait; ``served_models`` lists those that are."""

    code = "model_not_served"

    def __init__(self, message: str, served_models: Collection[str]) -> None:
        """Name the models that are served instead."""
        super().__init__(message)
        self.members = {"served_models": sorted(served_models)}


class UnsupportedLanguage(RequestError):
    """A language that the chosen model does not speak."""

    code = "unsupported_language"


class UnsupportedOption(RequestError):
    """Something that the chosen model cannot do."""

    code = "unsupported_option"


class UnknownFormat(RequestError):
    """A transcript format that does not exist."""

    code = "unknown_format"


class EmptyFile(RequestError):
    """An upload of zero bytes."""

    code = "empty_file"


class UploadTooLarge(RequestError):
    """A file larger than LONGHAND_MAX_UPLOAD_BYTES, by default 2 GiB."""

    code = "upload_too_large"


class UploadStalled(RequestError):
    """The sender fell silent, or took longer than 12 hours."""

    code = "upload_stalled"


class UnsupportedMediaType(RequestError):
    """A request body of another type than the endpoint reads."""

    code = "unsupported_media_type"


class JobNotFound(RequestError):
    """No such job, or another tenant's: the two are answered alike."""

    code = "job_not_found"


class JobEnded(RequestError):
    """A job that has succeeded or failed cannot be canceled any more."""

    code = "job_ended"


class JobNotRetryable(RequestError):
    """A job that is queued or running or has succeeded cannot be retried."""

    code = "job_not_retryable"


class AudioGone(RequestError):
    """The audio that a retry needs was removed when its retention ended."""

    code = "audio_gone"


class TranscriptNotReady(RequestError):
    """The job has not succeeded, so it has no transcript (yet); ``state`` is the job's state."""

    code = "transcript_not_ready"

    def __init__(self, message: str, state: str) -> None:
        """``state``: the job's."""
        super().__init__(message)
        self.members = {"state": state}


class TranscriptDeleted(RequestError):
    """The job succeeded, but its transcript was removed when its retention ended."""

    code = "transcript_deleted"


class ForbiddenUrl(RequestError):
    """A URL that no request is sent to: it is not https, or its address is not public."""

    code = "forbidden_url"


class WebhookNotFound(RequestError):
    """No such webhook, or another tenant's: the two are answered alike."""

    code = "webhook_not_found"


class TooManyWebhooks(RequestError):
    """The tenant has as many webhooks as it may have."""

    code = "too_many_webhooks"


class DeliveryNotFound(RequestError):
    """No such delivery, or another tenant's: the two are answered alike."""

    code = "delivery_not_found"


class DeliveryNotReplayable(RequestError):
    """A delivery that is still pending, or whose webhook takes none."""

    code = "delivery_not_replayable"
