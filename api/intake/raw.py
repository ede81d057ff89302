"""A raw body as a source of a job: the file and nothing else; its options come beside it."""

from collections.abc import AsyncIterator

from api.intake.landing import too_large
from api.intake.options import OptionCheck
from api.intake.submit import JobRequest
from shared.models.options import JobOptions

RAW_TYPES = ("audio/", "video/")
"""What the media types of raw bodies begin with."""
RAW_BINARY = ("application/octet-stream", "application/ogg")
"""Others of them."""

FILE_NAME = "file_name"
"""The option that names the file."""


class RawBody:
    """A body that is a file; a ``Source`` (``api.intake.submit``)."""

    def __init__(
        self,
        n_bytes: int | None,
        body: AsyncIterator[bytes],
        asked: JobOptions,
        file_name: str,
        options: OptionCheck,
        *,
        client: str,
        max_file_bytes: int,
    ) -> None:
        """Begin with what the head of the request says; ``body`` is not read yet.

        ``client`` is whose share of the places for uploads the file takes.

        Raises:
            UploadTooLarge: the declared size ``n_bytes`` is more than ``max_file_bytes``.
        """
        self.n_bytes = n_bytes
        self.client = client
        self._body = body
        self._first = b""
        self._file_name = file_name
        self._options = options
        self._request: JobRequest | None = None
        self._asked = asked
        if n_bytes is not None and n_bytes > max_file_bytes:
            raise too_large(max_file_bytes)

    async def begin(self) -> None:
        """Check the options, then wait for the first bytes of the body.

        Raises:
            RequestError: the options are refused.
            UploadStalled: nothing comes.
        """
        resolved = await self._options.resolve(self._asked)
        self._request = JobRequest(self._file_name, self._asked, resolved)
        self._first = await anext(self._body, b"")

    async def data(self) -> AsyncIterator[bytes]:
        """Yield the body once ``begin`` was called.

        Raises:
            UploadStalled: it does not come whole.
        """
        first, self._first = self._first, b""
        if first:
            yield first
        async for piece in self._body:
            yield piece

    def request(self) -> JobRequest:
        """Return what is asked, once ``begin`` was called."""
        assert self._request is not None
        return self._request
