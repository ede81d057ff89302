"""Addresses and files elsewhere that clients name."""

from shared.infra.errors.base import PermanentError, RequestError, TransientError
from shared.infra.errors.uploads import EmptyFile, UploadTooLarge


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


class OutboundFailed(TransientError):
    """An address that a client named gave no answer."""


class AddressForbidden(OutboundFailed):
    """The host that a client named has no address, or one that is not public."""


class FetchFailed(TransientError):
    """The URL's server could not be reached, failed, or broke off."""


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
