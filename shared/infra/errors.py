"""Every error Longhand raises on purpose.

    LonghandError
    ├── PermanentError          retrying cannot help: the step, and with it the job, fails at once
    │   ├── MediaError          the audio itself is at fault
    │   │   ├── UnreadableMedia     no decoder understands it, or it is damaged
    │   │   ├── TruncatedMedia      it ends before its own header says it does
    │   │   ├── NoAudioTrack        a container (a video, say) without any sound
    │   │   ├── AudioTooLong        more decoded audio than the limit allows
    │   │   └── AudioOutOfBounds    sample rate or channel count outside what we decode
    │   ├── ModelError          the model cannot be loaded or used
    │   ├── NoWorker            nobody has come to do the step
    │   └── DeliveryVoid        a webhook's receiver shall not have it any more
    ├── TransientError          the world is at fault: the step is tried again, later
    │   ├── Outage              a service we stand on is away: this costs the step no attempt
    │   │   ├── DatabaseUnavailable
    │   │   │   ├── CommitUncertain     the connection broke during the commit itself
    │   │   │   ├── DatabaseBusy        it gave up this transaction, or has no room for it now
    │   │   │   ├── DatabaseFull        its disk is full
    │   │   │   ├── DatabaseReadOnly    a standby, or set so by its operator
    │   │   │   ├── SchemaMissing       nobody has run this version's migrations
    │   │   │   └── DatabaseUnfit       of a newer version, or of an encoding other than UTF8
    │   │   ├── StorageUnavailable
    │   │   └── BrokerUnavailable
    │   ├── OutboundFailed          an address that a client named gave no answer
    │   ├── TooManyUploads
    │   ├── TooManyStreams
    │   ├── DeviceOutOfMemory
    │   ├── EngineFailed            the engine broke down; its process must be started anew
    │   └── InternalError           a bug of ours; twice in the same way fails the step
    ├── LeaseLost               another worker owns the step now; whatever this one holds is void
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
and sent to clients; the message is one sentence for a person and carries no secret and no internal
path.
"""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar


class LonghandError(Exception):
    """Base of all errors raised on purpose."""

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
    """A step has waited for as long as it may, and no worker takes steps of its kind or model."""

    code = "no_worker"


class DeliveryVoid(PermanentError):
    """A webhook delivery that nobody wants any more: its webhook is disabled, say, or deleted."""

    code = "delivery_void"


class TransientError(LonghandError):
    """A later attempt may succeed."""

    code = "transient_error"


class Outage(TransientError):
    """A service that all jobs need is away: no fault of the step's, and soon over, one hopes."""

    code = "outage"


class DatabaseUnavailable(Outage):
    """Postgres cannot be reached."""

    code = "database_unavailable"


class CommitUncertain(DatabaseUnavailable):
    """The connection broke during the commit: all of the transaction was written, or nothing."""


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
    """The database lacks this version's schema, or a part of it: it is to be migrated first."""

    code = "schema_missing"


class DatabaseUnfit(DatabaseUnavailable):
    """A database that this version cannot use, however long one waits."""

    code = "database_unfit"


class StorageUnavailable(Outage):
    """The object store cannot be reached or answers with server errors."""

    code = "storage_unavailable"


class BrokerUnavailable(Outage):
    """Redis cannot be reached."""

    code = "broker_unavailable"


class OutboundFailed(TransientError):
    """No answer could be had from an address that a client named."""

    code = "outbound_failed"


class TooManyUploads(TransientError):
    """As many uploads as this process takes at once are under way."""

    code = "too_many_uploads"


class TooManyStreams(TransientError):
    """As many clients as this process serves at once are watching jobs."""

    code = "too_many_streams"


class DeviceOutOfMemory(TransientError):
    """The inference device ran out of memory."""

    code = "device_out_of_memory"


class EngineFailed(TransientError):
    """The engine broke down for a reason of its own; whether it can go on is not known."""

    code = "engine_failed"


class InternalError(TransientError):
    """A bug of ours. Tried again, since other errors hide behind bugs, but not in the same way.

    ``fingerprint`` tells bugs apart: the exception's class, and the place in the code.
    """

    code = "internal_error"

    def __init__(self, message: str, fingerprint: str = "") -> None:
        super().__init__(message)  # one that is unpickled is made with this, and gets the rest then
        self.fingerprint = fingerprint


class LeaseLost(LonghandError):
    """The step's lease expired, or its job ended, while this worker was at it."""

    code = "lease_lost"


class WorkerStopping(LonghandError):
    """The worker was told to stop while it was at a step that would have taken longer."""

    code = "worker_stopping"


class RequestError(LonghandError):
    """A request that cannot be served as asked; ``status`` is its HTTP status."""

    code = "request_error"
    status: ClassVar[int] = 400
    members: Mapping[str, Any] = {}
    """What programs are told beside the code; all of it JSON."""


class InvalidRequest(RequestError):
    """A malformed body, parameter or cursor."""

    code = "invalid_request"
    status = 422


class UnknownModel(RequestError):
    """A model id that the catalogue does not have."""

    code = "unknown_model"
    status = 422


class ModelNotServed(RequestError):
    """A model that no worker serves: its job would wait for nobody knows how long."""

    code = "model_not_served"
    status = 409

    def __init__(self, message: str, served_models: Collection[str]) -> None:
        """Name the models that can be had instead."""
        super().__init__(message)
        self.members = {"served_models": sorted(served_models)}


class UnsupportedLanguage(RequestError):
    """A language that the chosen model does not speak."""

    code = "unsupported_language"
    status = 422


class UnsupportedOption(RequestError):
    """Something that the chosen model cannot do."""

    code = "unsupported_option"
    status = 422


class UnknownFormat(RequestError):
    """A transcript format that is not offered."""

    code = "unknown_format"
    status = 422


class EmptyFile(RequestError):
    """An upload of zero bytes."""

    code = "empty_file"
    status = 422


class UploadTooLarge(RequestError):
    """An upload over ``max_upload_bytes``, declared or found while reading."""

    code = "upload_too_large"
    status = 413


class UploadStalled(RequestError):
    """An upload whose sender fell silent."""

    code = "upload_stalled"
    status = 408


class UnsupportedMediaType(RequestError):
    """A request body of another type than the endpoint reads."""

    code = "unsupported_media_type"
    status = 415


class JobNotFound(RequestError):
    """No such job, or not this tenant's: the two answer alike."""

    code = "job_not_found"
    status = 404


class JobEnded(RequestError):
    """A job that has succeeded or failed cannot be canceled any more."""

    code = "job_ended"
    status = 409


class JobNotRetryable(RequestError):
    """A job that is queued or running or has succeeded cannot be retried."""

    code = "job_not_retryable"
    status = 409


class AudioGone(RequestError):
    """The audio that a retry needs was removed, its time being up."""

    code = "audio_gone"
    status = 409


class TranscriptNotReady(RequestError):
    """The job has not succeeded, so it has no transcript (yet)."""

    code = "transcript_not_ready"
    status = 409


class TranscriptDeleted(RequestError):
    """The job has succeeded, but its transcript was removed, its time being up."""

    code = "transcript_deleted"
    status = 410


class ForbiddenUrl(RequestError):
    """A URL that requests are not sent to: not https, or an address that is not public."""

    code = "forbidden_url"
    status = 422


class WebhookNotFound(RequestError):
    """No such webhook, or not this tenant's: the two answer alike."""

    code = "webhook_not_found"
    status = 404


class TooManyWebhooks(RequestError):
    """The tenant has as many webhooks as it may have."""

    code = "too_many_webhooks"
    status = 409


class DeliveryNotFound(RequestError):
    """No such delivery, or not this tenant's: the two answer alike."""

    code = "delivery_not_found"
    status = 404


class DeliveryNotReplayable(RequestError):
    """A delivery that is still pending, or whose webhook takes none."""

    code = "delivery_not_replayable"
    status = 409
