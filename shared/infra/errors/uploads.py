"""Files that come in."""

from shared.infra.errors.base import RequestError


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
