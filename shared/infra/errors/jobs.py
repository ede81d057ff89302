"""Jobs, and what is kept of them."""

from collections.abc import Mapping
from typing import Any

from shared.infra.errors.base import RequestError, TransientError


class JobUnfinished(TransientError):
    """The job goes on, but its client is not waited with any longer: it may ask again."""


class SpeakersUnavailable(RequestError):
    """Speakers were asked for, and no worker tells them apart."""


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


class ShareLinkNotFound(RequestError):
    """No such share link: it was never made, has expired or was revoked."""


class TooManyShareLinks(RequestError):
    """The job has as many share links as it may have."""


class PeaksNotReady(RequestError):
    """The job's audio has not been prepared, so its peaks are not known (yet)."""


class BatchNotFound(RequestError):
    """No such batch, or another tenant's: the two are answered alike."""
