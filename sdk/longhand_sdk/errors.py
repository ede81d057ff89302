"""Every error that this package raises.

    LonghandError
    ├── ConnectionFailed        the server cannot be reached, or broke off
    ├── UnexpectedAnswer        what answers is no Longhand server, or not one of this version
    ├── WaitTimeout             a job did not end within the time allowed
    ├── FileChanged             a file became shorter while it was being uploaded
    ├── SignatureError          a webhook event is not from the server, or too old
    ├── LiveError               a live session cannot begin or go on
    ├── JobFailed               a job ended without a transcript
    │   ├── JobCanceled             somebody has canceled it
    │   ├── AudioRefused            its audio is at fault (a subclass for each code)
    │   ├── FetchError              its file cannot be fetched (a subclass for each code)
    │   └── ModelError, NoWorker
    └── APIError                the server refuses a request (a subclass for each code)
        ├── NotFound                of a job, upload, batch, webhook, ...
        ├── Conflict                not in the present state
        ├── InvalidRequest          wrong as it is written
        ├── AccessDenied            the key does not open this
        ├── LimitReached            your limit is reached, for now
        └── Unavailable             the server cannot do it now

``code`` is the server's, the class's name in snake case. A code that this version does not know is
an ``APIError``, or for a job a ``JobFailed``, with that ``code``.
"""

import re
from collections.abc import Mapping
from typing import Any

from longhand_sdk.models import JobInfo, PartialTranscript

ANSWERS: dict[str, "type[APIError]"] = {}
"""Classes of refused requests by their codes."""
FAILURES: dict[str, "type[JobFailed]"] = {}
"""Classes of failed jobs by their codes."""


class LonghandError(Exception):
    """The base of all errors raised here; ``str(error)`` is a sentence for people."""

    code: str = "error"

    def __init_subclass__(cls) -> None:
        if "code" not in vars(cls):
            cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


class ConnectionFailed(LonghandError):
    """The server cannot be reached, or the connection broke before the answer was whole."""


class WaitTimeout(LonghandError, TimeoutError):
    """A job did not end within the time allowed; it goes on."""


class FileChanged(LonghandError):
    """A file became shorter while it was being uploaded."""


class SignatureError(LonghandError):
    """A webhook event that is not signed with the secret, or too old or too new."""


class LiveError(LonghandError):
    """A live session cannot begin or go on; ``code`` is the server's, as in docs/live.md."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class JobFailed(LonghandError):
    """A job ended without a transcript."""

    def __init__(
        self,
        message: str,
        job: JobInfo | None = None,
        partial: PartialTranscript | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.job = job
        """The job as it ended."""
        self.partial = partial
        """What was transcribed before; None: nothing, or it could not be read."""
        if code is not None:
            self.code = code

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        FAILURES[cls.code] = cls


class JobCanceled(JobFailed):
    """The job was canceled."""


class AudioRefused(JobFailed):
    """The audio cannot be transcribed."""


class UnreadableMedia(AudioRefused):
    """Not audio, a format that is not opened, or damaged beyond decoding."""


class TruncatedMedia(AudioRefused):
    """The file ends before its own header says it does."""


class NoAudioTrack(AudioRefused):
    """The file, a video say, has no sound."""


class AudioTooLong(AudioRefused):
    """The audio is longer than the server allows."""


class AudioOutOfBounds(AudioRefused):
    """The sample rate or the number of channels is out of bounds."""


class PoisonousInput(AudioRefused):
    """The audio ends or hangs the process that decodes it."""


class FetchError(JobFailed):
    """The file at the job's URL cannot be fetched."""


class FileNotAtUrl(FetchError):
    """The URL's server has no such file."""


class UrlAccessDenied(FetchError):
    """The URL's server wants to know who asks."""


class UrlRefused(FetchError):
    """The URL's server refuses the request."""


class WebPageAtUrl(FetchError):
    """A web page is at the URL, a login perhaps."""


class TooManyRedirects(FetchError):
    """The URL leads to another one too often."""


class FetchTooSlow(FetchError):
    """The file takes longer than it may."""


class FetchForbidden(FetchError):
    """The URL, or one that it leads to, may not be reached."""

    code = "forbidden_url"


class FetchTooLarge(FetchError):
    """The file at the URL is larger than an upload may be."""

    code = "upload_too_large"


class FetchedNothing(FetchError):
    """The file at the URL is empty."""

    code = "empty_file"


class FetchFailed(FetchError):
    """The URL's server could not be reached, or broke off, at every attempt."""


class OutboundFailed(FetchError):
    """The URL's server gave no answer at any attempt."""


class AddressForbidden(FetchError):
    """The URL's host has no public address."""


class ModelError(JobFailed):
    """The model cannot be loaded or used."""


class NoWorker(JobFailed):
    """No worker came that takes the job."""


class APIError(LonghandError):
    """The server refuses a request."""

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        code: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        """Of HTTP."""
        self.request_id = request_id
        """By which the server's log has the request."""
        self.retry_after_s = retry_after_s
        """When to ask again, in seconds; None: the server does not say."""
        self.members = dict(members or {})
        """Further details, such as ``served_models`` of ``ModelNotServed``."""
        if code is not None:
            self.code = code

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        ANSWERS[cls.code] = cls


class UnexpectedAnswer(APIError):
    """What answers is no Longhand server, or not one of this version."""


class InvalidRequest(APIError):
    """A parameter or a body that is wrong as it is written."""


class ConflictingOptions(InvalidRequest):
    """Options that exclude each other, or one that needs another."""


class MisnamedField(InvalidRequest):
    """A field that has another name; ``members["names"]`` has the right ones."""


class EmptyReference(InvalidRequest):
    """A reference without a word."""


class InvalidParameter(InvalidRequest):
    """A wrong parameter of another service's API."""


class UnsupportedParameter(InvalidParameter):
    """A parameter of another service's API that is not supported."""


class UnknownModel(InvalidRequest):
    """The catalogue has no such model."""


class UnsupportedLanguage(InvalidRequest):
    """The model does not know the language, or there is none of this name."""


class UnsupportedOption(InvalidRequest):
    """The model cannot do what an option asks."""


class UnknownFormat(InvalidRequest):
    """There is no such transcript format."""


class NotAcceptable(InvalidRequest):
    """The answer exists in none of the media types that are accepted."""


class EmptyFile(InvalidRequest):
    """The file has no bytes."""


class UploadTooLarge(InvalidRequest):
    """The file is larger than an upload may be."""


class UnsupportedMediaType(InvalidRequest):
    """The body has a type that the endpoint does not read."""


class DigestMismatch(InvalidRequest):
    """The file's SHA-256 is not the one that was declared."""


class TusVersion(InvalidRequest):
    """The server speaks another version of tus."""


class ChecksumUnknown(InvalidRequest):
    """A checksum of an unknown algorithm."""


class ChecksumMismatch(InvalidRequest):
    """What was sent is not what its checksum says."""


class RangeNotSatisfiable(InvalidRequest):
    """The file has no bytes where some are asked for."""


class IdempotencyKeyReused(InvalidRequest):
    """The Idempotency-Key stands for another request."""


class ForbiddenUrl(InvalidRequest):
    """No request is sent to this URL: it is not https, or its address is not public."""


class UnknownHost(InvalidRequest):
    """The server is not known under the host name that it was asked under."""


class MethodNotAllowed(InvalidRequest):
    """The path does not have this method."""


class NotFound(APIError):
    """There is nothing at this path."""


class JobNotFound(NotFound):
    """There is no such job."""


class SegmentNotFound(NotFound):
    """The transcript has no segment of this id."""


class SpeakerNotFound(NotFound):
    """The job has no such speaker."""


class UploadNotFound(NotFound):
    """There is no such upload."""


class BatchNotFound(NotFound):
    """There is no such batch."""


class WebhookNotFound(NotFound):
    """There is no such webhook."""


class DeliveryNotFound(NotFound):
    """There is no such delivery."""


class TenantNotFound(NotFound):
    """There is no such tenant."""


class KeyNotFound(NotFound):
    """There is no such API key."""


class WorkerNotFound(NotFound):
    """There is no such worker, or it is not seen any more."""


class ShareLinkNotFound(NotFound):
    """There is no such share link: it was never made, has expired or was revoked."""


class TranscriptDeleted(NotFound):
    """The transcript was removed when its time was up."""


class AudioDeleted(NotFound):
    """The audio is not kept any more."""


class Conflict(APIError):
    """The request does not go with the present state."""


class ModelNotServed(Conflict):
    """No worker serves the model; ``members["served_models"]`` are those that are served."""


class SpeakersUnavailable(Conflict):
    """No worker tells speakers apart."""


class JobEnded(Conflict):
    """The job has ended, so it cannot be canceled."""


class JobNotRetryable(Conflict):
    """The job is under way or has succeeded, so it cannot be retried."""


class AudioGone(Conflict):
    """The audio that a retry needs was removed."""


class TranscriptNotReady(Conflict):
    """The job has no transcript (yet); ``members["state"]`` is its state."""


class CorrectionConflict(Conflict):
    """The segment was corrected since: ``members`` has both texts, ``theirs`` and ``yours``."""


class NothingToUndo(Conflict):
    """There is no correction to undo, or to redo."""


class WorkerNotDrainable(Conflict):
    """The worker must not rest."""


class TooManyShareLinks(Conflict):
    """The job has as many share links as it may have."""


class PeaksNotReady(Conflict):
    """The job's audio has not been prepared (yet)."""


class AudioNotFetched(Conflict):
    """The file at the job's URL is not fetched (yet)."""


class UploadIncomplete(Conflict):
    """The upload lacks bytes, or is being verified."""


class OffsetMismatch(Conflict):
    """A piece of an upload that does not begin where the upload ends."""


class IdempotencyKeyInUse(Conflict):
    """A request with this Idempotency-Key is under way."""


class TooManyWebhooks(Conflict):
    """The tenant has as many webhooks as it may have."""


class DeliveryNotReplayable(Conflict):
    """The delivery is pending, or its webhook takes none."""


class TenantExists(Conflict):
    """There is a tenant of this id already."""


class AccessDenied(APIError):
    """The API key does not open this."""


class Unauthenticated(AccessDenied):
    """There is no valid API key in the request."""


class ScopeMissing(AccessDenied):
    """The API key lacks a scope, which ``members["scope"]`` names."""


class CsrfTokenWrong(AccessDenied):
    """A request that changes something has the page's cookie, but not its session's token."""


class ForbiddenOrigin(AccessDenied):
    """A web page of an origin that is not allowed wants to change something."""


class LimitReached(APIError):
    """The tenant has as much as it may; ``retry_after_s`` says when to ask again."""


class RateLimited(LimitReached):
    """As many requests in this minute as the tenant may send."""


class TooManyJobs(LimitReached):
    """As many of the tenant's jobs wait or run as may."""


class TooMuchAudio(LimitReached):
    """As much audio today as the tenant may have transcribed."""


class TooManyAtOnce(LimitReached):
    """The tenant has its share of what the server does at once."""


class TooManyOpenUploads(LimitReached):
    """As many of the tenant's uploads are open as may be."""


class TooManyTests(LimitReached):
    """As many webhook tests are under way as may be."""


class Unavailable(APIError):
    """The server cannot do this now; a later attempt may succeed."""


class TransientError(Unavailable):
    """A passing error of no closer kind."""


class Outage(Unavailable):
    """A service that the server needs is away."""


class DatabaseUnavailable(Outage):
    """The server's database cannot be reached."""


class DatabaseBusy(DatabaseUnavailable):
    """The server's database gave up the transaction, or lacks resources."""


class DatabaseFull(DatabaseUnavailable):
    """The disk of the server's database is full."""


class DatabaseReadOnly(DatabaseUnavailable):
    """The server's database takes no writes."""


class SchemaMissing(DatabaseUnavailable):
    """The server's database was not migrated."""


class DatabaseUnfit(DatabaseUnavailable):
    """The server's database is of no use to this version."""


class StorageUnavailable(Outage):
    """The server's object store cannot be reached."""


class BrokerUnavailable(Outage):
    """The server's broker cannot be reached."""


class IssuerUnavailable(Unavailable):
    """The issuer of tokens does not tell its keys."""


class TooManyUploads(Unavailable):
    """The server receives as many uploads as it may."""


class TooManyStreams(Unavailable):
    """As many clients watch jobs as may."""


class TooManyCalls(Unavailable):
    """As many clients wait for transcripts as may."""


class LiveBusy(Unavailable):
    """No live session can begin now."""


class QueueFull(Unavailable):
    """As many jobs wait as may, or a new one would wait too long."""


class JobUnfinished(Unavailable):
    """The job goes on, but the request ends."""


class UploadStalled(Unavailable):
    """The upload was too slow, or fell silent."""


class InternalError(Unavailable):
    """A bug of the server's; its log has the request by its ``request_id``."""


class DeviceOutOfMemory(Unavailable):
    """The inference device ran out of memory."""


class EngineFailed(Unavailable):
    """The engine broke down."""
