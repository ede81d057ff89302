"""A multipart form as a source of a job. Its fields are checked as early as possible."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Protocol

from pydantic import ValidationError

from api.intake.landing import too_large
from api.intake.multipart import MAX_FIELD_BYTES, MAX_PARTS, Field, FileBegin, FileData, FormParser
from api.intake.options import OptionCheck
from api.intake.submit import JobRequest
from api.spelling import right_names, with_nearest
from api.validation import refusal
from shared.infra.errors import InvalidRequest, MisnamedField
from shared.models.options import (
    MAX_METADATA_BYTES,
    JobOptions,
    ResolvedOptions,
)
from shared.speech.text.accuracy import MAX_REFERENCE_CHARS

_LONG_FIELDS = {
    "reference": 4 * MAX_REFERENCE_CHARS,  # UTF-8 has at most four bytes for a character
    "metadata": MAX_METADATA_BYTES,
}
"""Fields that may be longer than the parser's usual limit, in bytes."""

JSON_SOURCES = ("audio_url", "audio_base64", "upload_id")
"""The members by which a JSON body names its file. Forms do not have them."""

_FORM_BYTES = MAX_PARTS * (MAX_FIELD_BYTES + 1024) + sum(_LONG_FIELDS.values())
"""The most that fields, headers and boundaries add to a file."""


class Fields(Protocol):
    """The fields of a form that are not its file, in the words of one face."""

    @property
    def texts(self) -> Collection[str]:
        """Names of fields whose text may come as a file."""

    @property
    def long_fields(self) -> Mapping[str, int]:
        """The most bytes of fields that may be longer than others."""

    def add(self, field: Field) -> None:
        """Take a field.

        Raises:
            InvalidRequest: it cannot be taken.
        """

    def asked(self) -> JobOptions:
        """Return what is asked so far; the same object as long as no field is added.

        Raises:
            RequestError: it cannot be asked.
        """


class FormFields:
    """The options of a form, as its fields come in before and after the file."""

    texts: Collection[str] = JobOptions.model_fields
    long_fields: Mapping[str, int] = _LONG_FIELDS

    def __init__(self, what: str = "fields", others: Sequence[str] = ("file",)) -> None:
        """``what`` they are, for people; ``others`` are there beside the options."""
        self._what, self._others = what, others
        self._values: dict[str, str] = {}
        self._unknown: list[str] = []
        self._asked: JobOptions | None = None

    def add(self, field: Field) -> None:
        """Take a field.

        Raises:
            InvalidRequest: it was given before, or contains NUL.
        """
        if "\0" in field.value:
            raise InvalidRequest(f"the field {field.name!r} contains a NUL character")
        self._asked = None
        if field.name not in JobOptions.model_fields:
            self._unknown.append(field.name)
            return
        if field.name in self._values:
            raise InvalidRequest(f"the field {field.name!r} is given twice")
        self._values[field.name] = field.value

    def asked(self) -> JobOptions:
        """Return what is asked so far; the same object as long as no field is added.

        Raises:
            InvalidRequest: unknown fields or bad values.
            UnsupportedLanguage: nothing else is wrong, and there is no such language.
        """
        if self._asked is not None:
            return self._asked
        if self._unknown:
            known = (*self._others, *JobOptions.model_fields)
            told = (
                f"unknown {self._what}: {with_nearest(self._unknown, known)}; "
                f"there are {', '.join(known)}"
            )
            elsewhere = right_names(self._unknown, JSON_SOURCES)
            if elsewhere:
                told += f"; {', '.join(sorted(set(elsewhere.values())))}: in a JSON body"
            names = elsewhere | right_names(self._unknown, known)
            raise MisnamedField(told, names) if names else InvalidRequest(told)
        # A form sends an empty field for a choice that was not made.
        given = {name: value for name, value in self._values.items() if value}
        try:
            self._asked = JobOptions.model_validate(given)
        except ValidationError as error:
            raise refusal(error, ()) from error
        return self._asked


class MultipartForm:
    """A ``multipart/form-data`` body with one file; a ``Source`` (``api.intake.submit``)."""

    def __init__(
        self,
        content_type: str | None,
        n_bytes: int | None,
        body: AsyncIterator[bytes],
        options: OptionCheck,
        *,
        client: str,
        max_file_bytes: int,
        fields: Fields | None = None,
    ) -> None:
        """Begin with what the head of the request says; ``body`` is not read yet.

        ``client`` is whose share of the places for uploads the form takes. ``fields`` reads the
        fields of a dialect; None: they are the options of ``POST /jobs``.

        Raises:
            UnsupportedMediaType: the body is not ``multipart/form-data``.
            InvalidRequest: the header names no usable boundary.
            UploadTooLarge: its declared size ``n_bytes`` is too much for ``max_file_bytes``.
        """
        self.n_bytes = n_bytes
        self.client = client
        self._fields = fields or FormFields()
        self._parser = FormParser(
            content_type, texts=self._fields.texts, long_fields=self._fields.long_fields
        )
        self._body = body
        self._first = b""
        self._options = options
        self._max_file_bytes = max_file_bytes
        self._file_name = ""
        self._request: JobRequest | None = None
        if n_bytes is not None:
            self._check_size(n_bytes)

    async def begin(self) -> None:
        """Wait for the first bytes of the body.

        Raises:
            UploadStalled: they do not come.
        """
        self._first = await anext(self._body, b"")

    async def data(self) -> AsyncIterator[bytes | memoryview]:
        """Yield the file's bytes once ``begin`` was called; read the fields on the way.

        Raises:
            RequestError: the body is not a form with one file and good options, or too long.
        """
        n_bytes = 0
        checked: JobOptions | None = None
        options: ResolvedOptions | None = None
        async for piece in self._pieces():
            n_bytes += len(piece)
            self._check_size(n_bytes)
            for event in self._parser.feed(piece):
                match event:
                    case Field():
                        self._fields.add(event)
                    case FileBegin():
                        checked = self._fields.asked()
                        options = await self._options.check_so_far(checked)
                        self._file_name = event.file_name
                    case FileData():
                        yield event.data
        # An unknown field may be meant as the file, so it is reported before a missing file is.
        asked = self._fields.asked()
        if options is None or asked is not checked:
            options = await self._options.resolve(asked)
        self._parser.finish()
        self._request = JobRequest(self._file_name, asked, options)

    def request(self) -> JobRequest:
        """Return what the form asks, once ``data`` has ended."""
        assert self._request is not None
        return self._request

    async def _pieces(self) -> AsyncIterator[bytes]:
        first, self._first = self._first, b""
        yield first
        async for piece in self._body:
            yield piece

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > self._max_file_bytes + _FORM_BYTES:
            raise too_large(self._max_file_bytes)
