"""Every error that Longhand raises on purpose; their HTTP statuses are in ``api.problems``.

    LonghandError
    ├── PermanentError          retrying cannot help: the step, and with it the job, fails at once
    │   ├── MediaError          the audio itself is at fault
    │   │   ├── UnreadableMedia     no decoder understands it, or it is damaged
    │   │   ├── TruncatedMedia      it ends before its own header says it does
    │   │   ├── NoAudioTrack        a container (a video, say) without any sound
    │   │   ├── AudioTooLong        more decoded audio than the limit allows
    │   │   └── AudioOutOfBounds    sample rate or channel count outside what we decode
    │   ├── FetchError          the file at a job's URL cannot be had
    │   │   ├── FetchForbidden      the URL, or one that it leads to, may not be reached
    │   │   ├── FileNotAtUrl        its server has no such file
    │   │   ├── UrlAccessDenied     its server asks who wants it
    │   │   ├── UrlRefused          its server refuses the request otherwise
    │   │   ├── WebPageAtUrl        a web page is there, of a login perhaps
    │   │   ├── TooManyRedirects    it leads from one URL to the next
    │   │   ├── FetchTooLarge, FetchedNothing
    │   │   └── FetchTooSlow        it takes longer than it may
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
    │   │   └── AddressForbidden        its host has no public address
    │   ├── FetchFailed             a file was not fetched this time
    │   ├── IssuerUnavailable       the issuer of JWTs does not tell its keys
    │   ├── TooManyUploads, TooManyStreams, TooManyCalls, TooManyTests, QueueFull
    │   ├── LiveBusy                no live session can begin now
    │   ├── JobUnfinished           a request's job goes on, but the request ends
    │   ├── PoisonousInput          the audio ends or hangs the process that decodes it
    │   ├── DeviceOutOfMemory
    │   ├── EngineFailed            the engine broke down; its process must be restarted
    │   └── InternalError           a bug of ours; twice in the same way fails the step
    ├── InvalidSetting          an environment variable that its setting cannot take
    │   └── UnsafeSetting       a setting that would let strangers in
    ├── LeaseLost               another worker owns the step now; this one's result is void
    ├── WorkerStopping          the worker was told to stop; the step goes back to its queue
    ├── LargeFile               the step goes to the queue of large files, and begins anew there
    └── RequestError            what a caller asked for cannot be done as asked
        ├── InvalidRequest          it breaks the schema of the OpenAPI document
        │   ├── ConflictingOptions      the schema allows each option, but not all of them together
        │   ├── MisnamedField           other services' name, or a misspelling, of what there is
        │   ├── EmptyReference
        │   └── InvalidParameter        a parameter of a dialect
        │       └── UnsupportedParameter    one that is documented there, and not done here
        ├── UnknownModel, ModelNotServed, UnsupportedLanguage, UnsupportedOption
        ├── SpeakersUnavailable     nothing here tells speakers apart
        ├── UnknownFormat, NotAcceptable, UnsupportedMediaType
        ├── EmptyFile, UploadTooLarge, UploadStalled
        ├── UploadNotFound, UploadIncomplete
        ├── DigestMismatch          a file's SHA-256 is not the one that was declared
        ├── TusVersion, OffsetMismatch, ChecksumUnknown, ChecksumMismatch
        ├── JobNotFound, JobEnded, JobNotRetryable, AudioGone
        ├── JobFailed               the job whose transcript was asked for has none
        │   ├── AudioRefused            its audio is at fault
        │   └── JobCanceled             somebody has canceled it
        ├── TranscriptNotReady, TranscriptDeleted, AudioNotFetched, AudioDeleted
        ├── SpeakerNotFound
        ├── SegmentNotFound         the transcript has no such segment
        ├── CorrectionConflict      somebody else has corrected the segment meanwhile
        ├── NothingToUndo
        ├── PeaksNotReady           the job is not prepared yet
        ├── RangeNotSatisfiable
        ├── LimitReached            the tenant has, for now, as much as it may
        │   └── RateLimited, TooManyJobs, TooMuchAudio, TooManyAtOnce, TooManyOpenUploads
        ├── IdempotencyKeyInUse     a request with this key is under way
        ├── IdempotencyKeyReused    the key stands for another request
        ├── BatchNotFound
        ├── UnknownHost, ForbiddenOrigin
        ├── ForbiddenUrl, WebhookNotFound, TooManyWebhooks
        ├── DeliveryNotFound, DeliveryNotReplayable
        ├── Unauthenticated         nobody knows who asks
        ├── CsrfTokenWrong          the page's cookie comes without the token of its session
        ├── ScopeMissing            who asks may not do this
        └── TenantNotFound, TenantExists, KeyNotFound

Retry decisions read the class, never the text. ``code`` is the class's name in snake case. It is
stored with failed jobs and sent to clients, so a class keeps its name. The message is one sentence
for a person, without secrets and internal paths.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar


class LonghandError(Exception):
    """The base of all errors raised on purpose."""

    code: ClassVar[str] = "error"

    def __init_subclass__(cls) -> None:
        if "code" not in vars(cls):
            cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


class PermanentError(LonghandError):
    """Trying again would give the same result."""


class MediaError(PermanentError):
    """The submitted audio cannot be transcribed."""


class UnreadableMedia(MediaError):
    """Not audio, a format we do not open, or damaged beyond decoding."""


class TruncatedMedia(MediaError):
    """The file ends before its own header says it does."""


class NoAudioTrack(MediaError):
    """A readable container that holds no audio stream."""


class AudioTooLong(MediaError):
    """More decoded audio than ``max_duration_s`` allows."""


class AudioOutOfBounds(MediaError):
    """A sample rate or a channel count outside the supported range."""


class FetchError(PermanentError):
    """The file at a job's ``audio_url`` cannot be had."""


class FileNotAtUrl(FetchError):
    """The URL's server has no such file (404 or 410)."""


class UrlAccessDenied(FetchError):
    """The URL's server wants to know who asks (401, 403 or 407)."""


class UrlRefused(FetchError):
    """The URL's server refuses the request."""


class WebPageAtUrl(FetchError):
    """A web page is at the URL, perhaps one to log in, and no file."""


class TooManyRedirects(FetchError):
    """The URL leads to another one, and so on, more often than is followed."""


class FetchTooSlow(FetchError):
    """The file does not come within LONGHAND_FETCH_LIMIT_S, or at less than 16 KiB a second."""


class ModelError(PermanentError):
    """A model that cannot be loaded, or that cannot do what its catalogue entry says."""


class NoWorker(PermanentError):
    """A step waited for its limit, and no worker takes steps of its kind or model."""


class DeliveryVoid(PermanentError):
    """A webhook delivery that is not wanted any more: its webhook is disabled or deleted."""


class TransientError(LonghandError):
    """A later attempt may succeed."""


class Outage(TransientError):
    """A service that all jobs need is away; the step is not at fault."""


class DatabaseUnavailable(Outage):
    """Postgres cannot be reached."""


class CommitUncertain(DatabaseUnavailable):
    """The connection broke during the commit: the transaction was written as a whole or not."""

    code = DatabaseUnavailable.code


class DatabaseBusy(DatabaseUnavailable):
    """Postgres gave up the transaction (a deadlock, a conflict, a limit) or lacks resources."""


class DatabaseFull(DatabaseUnavailable):
    """The disk of Postgres is full: reads go on, writes do not."""


class DatabaseReadOnly(DatabaseUnavailable):
    """Postgres takes no writes: it is a standby, or its operator has set it so."""


class SchemaMissing(DatabaseUnavailable):
    """The database lacks this version's schema or a part of it: it must be migrated first."""


class DatabaseUnfit(DatabaseUnavailable):
    """A database that this version cannot use: waiting does not help."""


class StorageUnavailable(Outage):
    """The object store cannot be reached or answers with server errors."""


class BrokerUnavailable(Outage):
    """Redis cannot be reached."""


class OutboundFailed(TransientError):
    """An address that a client named gave no answer."""


class AddressForbidden(OutboundFailed):
    """The host that a client named has no address, or one that is not public."""


class FetchFailed(TransientError):
    """The URL's server could not be reached, failed, or broke off."""


class IssuerUnavailable(TransientError):
    """The issuer of JWTs does not tell its keys, so a token can be neither taken nor refused."""


class TooManyUploads(TransientError):
    """This process receives as many uploads as it may at once."""


class TooManyStreams(TransientError):
    """This process serves as many watchers of jobs as it may at once."""


class TooManyCalls(TransientError):
    """As many clients wait for transcripts in this process as may at once."""


class TooManyTests(TransientError):
    """As many tests of webhooks wait for their receivers as a tenant may have, or a host."""


class QueueFull(TransientError):
    """As many jobs wait or run as may, or a new one would wait for too long."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        """``retry_after_s``: when to ask again, in seconds from now."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class LiveBusy(TransientError):
    """No live session can begin now: nobody could hear it, there are too many, or the API stops."""


class JobUnfinished(TransientError):
    """The job goes on, but its client is not waited with any longer: it may ask again."""


class PoisonousInput(TransientError):
    """The audio ends the process that decodes it, or has it hang; so may a machine in distress."""


class DeviceOutOfMemory(TransientError):
    """The inference device ran out of memory."""


class EngineFailed(TransientError):
    """The engine broke down; whether it can go on is not known."""


class InternalError(TransientError):
    """A bug of ours. The step is retried; if it meets the same bug again, it fails.

    ``fingerprint`` tells bugs apart: the exception's class and the place in the code.
    """

    def __init__(self, message: str, fingerprint: str = "") -> None:
        super().__init__(message)  # unpickling calls this with the message, then sets the rest
        self.fingerprint = fingerprint


class InvalidSetting(LonghandError):
    """A setting has a value that it cannot take: the program does not start."""


class UnsafeSetting(InvalidSetting):
    """A setting that would let strangers in."""


class LeaseLost(LonghandError):
    """The step's lease expired, or its job ended, while this worker ran it."""


class WorkerStopping(LonghandError):
    """The worker was told to stop while it ran a step that would take longer than it may."""


class LargeFile(LonghandError):
    """The audio is long although its file is small, and too many large files are in work."""


class RequestError(LonghandError):
    """A request that cannot be served as asked."""

    members: Mapping[str, Any] = {}
    """What programs are told beside the code; JSON values."""


class UnknownHost(RequestError):
    """The Host header names none of the hosts that this API is known as."""


class ForbiddenOrigin(RequestError):
    """A web page of an origin that is not allowed wants to change something."""


class InvalidRequest(RequestError):
    """A malformed body, parameter or cursor."""


class ConflictingOptions(InvalidRequest):
    """Options that exclude each other, or one that needs another."""


class MisnamedField(InvalidRequest):
    """A field that Longhand names otherwise: ``names`` has the right name for each wrong one."""

    def __init__(self, message: str, names: Mapping[str, str]) -> None:
        """``names``: the right ones by the wrong ones."""
        super().__init__(message)
        self.members = {"names": dict(names)}


class EmptyReference(InvalidRequest):
    """A reference without a word."""


class InvalidParameter(InvalidRequest):
    """A parameter of another service's API that there is not, or whose value is wrong."""

    def __init__(self, message: str, param: str | None = None) -> None:
        """``param``: its name."""
        super().__init__(message)
        self.members = {"param": param}


class UnsupportedParameter(InvalidParameter):
    """A parameter of another service's API that would change the answer, and is not done here."""


class UnknownModel(RequestError):
    """A model id that the catalogue does not have."""


class ModelNotServed(RequestError):
    """No worker serves the model, so its job would wait; ``served_models`` lists those that are."""

    def __init__(self, message: str, served_models: Collection[str]) -> None:
        """Name the models that are served instead."""
        super().__init__(message)
        self.members = {"served_models": sorted(served_models)}


class UnsupportedLanguage(RequestError):
    """A language that the chosen model does not speak, or that there is not."""


class SpeakersUnavailable(RequestError):
    """Speakers were asked for, and no worker tells them apart."""


class UnsupportedOption(RequestError):
    """Something that the chosen model cannot do."""


class UnknownFormat(RequestError):
    """A transcript format that does not exist."""


class EmptyFile(RequestError):
    """An upload of zero bytes."""


class UploadTooLarge(RequestError):
    """A file larger than LONGHAND_MAX_UPLOAD_BYTES, by default 2 GiB."""


class UploadStalled(RequestError):
    """The sender fell silent or is too slow, or took longer than 12 hours."""


class UploadNotFound(RequestError):
    """No such upload, one that was removed, or another tenant's: all are answered alike."""


class UploadIncomplete(RequestError):
    """An upload that lacks bytes (``stored_bytes`` are there), or is still being verified."""

    def __init__(self, message: str, state: str, stored_bytes: int) -> None:
        """``state``: the upload's."""
        super().__init__(message)
        self.members = {"state": state, "stored_bytes": stored_bytes}


class DigestMismatch(RequestError):
    """The SHA-256 of what was uploaded is not the one that was declared."""


class TusVersion(RequestError):
    """The request's Tus-Resumable is not the version of tus that is spoken here."""


class OffsetMismatch(RequestError):
    """A PATCH that does not begin where the upload ends, or that another PATCH has replaced."""


class ChecksumUnknown(RequestError):
    """An Upload-Checksum of an algorithm that is not known here, or that is malformed."""


class ChecksumMismatch(RequestError):
    """What a PATCH sent is not what its Upload-Checksum says; it was thrown away."""


class UnsupportedMediaType(RequestError):
    """A request body of another type than the endpoint reads."""


class SpeakerNotFound(RequestError):
    """No such speaker in the job's transcript."""


class JobNotFound(RequestError):
    """No such job, or another tenant's: the two are answered alike."""


class JobEnded(RequestError):
    """A job that has succeeded or failed cannot be canceled any more."""


class JobNotRetryable(RequestError):
    """A job that is queued or running or has succeeded cannot be retried."""


class AudioGone(RequestError):
    """The audio that a retry needs was removed when its retention ended."""


class NotAcceptable(RequestError):
    """The ``Accept`` header takes none of the media types that are ``offered``."""

    def __init__(self, message: str, offered: Sequence[str]) -> None:
        """``offered``: those that the answer can have."""
        super().__init__(message)
        self.members = {"offered": list(offered)}


class JobFailed(RequestError):
    """The job ended without a transcript: ``error`` says why, and ``job_id`` which one it is."""

    def __init__(self, message: str, job_id: str, error: Mapping[str, str] | None = None) -> None:
        """``error``: the job's own ``code`` and ``detail``."""
        super().__init__(message)
        self.members = {"job_id": job_id, "error": error and dict(error)}


class AudioRefused(JobFailed):
    """The audio cannot be transcribed: ``error`` says why, and ``job_id`` which job has failed."""


class JobCanceled(JobFailed):
    """The job was canceled while its client waited for the transcript."""


class TranscriptNotReady(RequestError):
    """The job has not succeeded, so it has no transcript (yet); ``state`` is the job's state."""

    def __init__(self, message: str, state: str) -> None:
        """``state``: the job's."""
        super().__init__(message)
        self.members = {"state": state}


class TranscriptDeleted(RequestError):
    """The job succeeded, but its transcript was removed when its retention ended."""


class AudioNotFetched(RequestError):
    """The file at the job's URL is not fetched (yet); ``state`` is the job's state."""

    def __init__(self, message: str, state: str) -> None:
        """``state``: the job's."""
        super().__init__(message)
        self.members = {"state": state}


class AudioDeleted(RequestError):
    """The job's audio is not kept any more."""


class SegmentNotFound(RequestError):
    """The transcript has no segment of this id."""


class CorrectionConflict(RequestError):
    """The segment was corrected since; the answer has both texts, ``theirs`` and ``yours``."""

    def __init__(
        self, message: str, *, theirs: str, yours: str, current: Mapping[str, Any]
    ) -> None:
        """``current``: what a correction is answered with."""
        super().__init__(message)
        self.members = {"theirs": theirs, "yours": yours, "current": dict(current)}


class NothingToUndo(RequestError):
    """There is no correction to undo, or to redo."""


class PeaksNotReady(RequestError):
    """The job's audio has not been prepared, so its peaks are not known (yet)."""


class RangeNotSatisfiable(RequestError):
    """The file has no bytes where the ``Range`` header asks for some."""

    def __init__(self, message: str, n_bytes: int) -> None:
        """``n_bytes``: the size of the file."""
        super().__init__(message)
        self.n_bytes = n_bytes


class LimitReached(RequestError):
    """The tenant has as much as it may."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        """``retry_after_s``: when to ask again, in seconds from now."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(LimitReached):
    """The tenant has sent as many requests within this minute as it may."""


class TooManyJobs(LimitReached):
    """As many of the tenant's jobs wait or run as may."""


class TooMuchAudio(LimitReached):
    """The tenant has had as much audio transcribed today as it may."""


class TooManyAtOnce(LimitReached):
    """The tenant has its share of what an API process serves at once, or its own limit of it."""


class TooManyOpenUploads(LimitReached):
    """As many of the tenant's uploads are open as may be."""


class IdempotencyKeyInUse(RequestError):
    """A request with this Idempotency-Key is under way: ask again in a moment."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        """``retry_after_s``: when to ask again, in seconds from now."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class IdempotencyKeyReused(RequestError):
    """This Idempotency-Key was used for another request."""


class BatchNotFound(RequestError):
    """No such batch, or another tenant's: the two are answered alike."""


class ForbiddenUrl(RequestError):
    """A URL that no request is sent to: it is not https, or its address is not public."""


class FetchForbidden(FetchError):
    """The URL, or one that it redirects to, is none that a request is sent to."""

    code = ForbiddenUrl.code


class FetchTooLarge(FetchError):
    """The file at the URL is larger than an upload may be."""

    code = UploadTooLarge.code


class FetchedNothing(FetchError):
    """The file at the URL is empty."""

    code = EmptyFile.code


class WebhookNotFound(RequestError):
    """No such webhook, or another tenant's: the two are answered alike."""


class TooManyWebhooks(RequestError):
    """The tenant has as many webhooks as it may have."""


class DeliveryNotFound(RequestError):
    """No such delivery, or another tenant's: the two are answered alike."""


class DeliveryNotReplayable(RequestError):
    """A delivery that is still pending, or whose webhook takes none."""


class Unauthenticated(RequestError):
    """No credential, or one that is malformed, unknown, expired or revoked: all answered alike."""


class CsrfTokenWrong(RequestError):
    """A request that changes something has the page's cookie, but not its session's token."""


class ScopeMissing(RequestError):
    """The credential is valid, but lacks ``scope``."""

    def __init__(self, message: str, scope: str) -> None:
        """``scope``: the one that the route demands."""
        super().__init__(message)
        self.members = {"scope": scope}


class TenantNotFound(RequestError):
    """No such tenant."""


class TenantExists(RequestError):
    """There is a tenant of this id already."""


class KeyNotFound(RequestError):
    """No such API key."""


def _codes(kind: type[LonghandError]) -> Iterator[str]:
    yield kind.code
    for each in kind.__subclasses__():
        yield from _codes(each)


POISONOUS = "poisonous_input"
"""The code of a step whose worker died or hung at every attempt."""

AUDIO_CODES = frozenset({POISONOUS, *_codes(MediaError)})
"""The codes of jobs whose audio is at fault."""

FETCH_CODES = frozenset(
    {FetchFailed.code, OutboundFailed.code, AddressForbidden.code, *_codes(FetchError)}
)
"""The codes of jobs whose audio could not be fetched."""
