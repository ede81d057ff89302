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
        ├── ShareLinkNotFound, TooManyShareLinks
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

The classes are in modules by area. Everybody imports them from here.
"""

from shared.infra.errors.access import *  # noqa: F403
from shared.infra.errors.base import *  # noqa: F403
from shared.infra.errors.codes import *  # noqa: F403
from shared.infra.errors.jobs import *  # noqa: F403
from shared.infra.errors.limits import *  # noqa: F403
from shared.infra.errors.media import *  # noqa: F403
from shared.infra.errors.outages import *  # noqa: F403
from shared.infra.errors.outbound import *  # noqa: F403
from shared.infra.errors.requests import *  # noqa: F403
from shared.infra.errors.steps import *  # noqa: F403
from shared.infra.errors.uploads import *  # noqa: F403
from shared.infra.errors.webhooks import *  # noqa: F403
