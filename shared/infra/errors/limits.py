"""As much as there may be, for now."""

from shared.infra.errors.base import RequestError, TransientError


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
