"""Multipart bodies as they arrive: bytes go in, form events come out; at most one field is kept.

No I/O happens here: whoever feeds the parser decides where a file goes and how fast.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from shared.infra.errors import InvalidRequest, MisnamedField, UnsupportedMediaType
from shared.infra.file_names import form_file_name, unescape
from shared.infra.quantities import size

MAX_PARTS = 128
MAX_FIELD_BYTES = 4096
"""The most that a field may have for which no other limit is given."""

_EXAMPLE = "curl -F file=@talk.mp3 URL"

_FILE_NAME = re.compile(rb";\s*filename\*?\s*=", re.IGNORECASE)

_MEDIA_TYPES = (b"audio/", b"video/", b"application/octet-stream")
"""Types of parts that are files, even without a file's name."""

_NO_LONG_FIELDS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Field:
    """A form field, complete."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FileBegin:
    """The file's part begins; its data follows."""

    file_name: str


@dataclass(frozen=True, slots=True)
class FileData:
    """The file's next bytes, a view of what was fed."""

    data: memoryview


Event = Field | FileBegin | FileData


class FormParser:
    """A push parser for one ``multipart/form-data`` body with one file part named ``file``.

    Fields and file come in any order. All methods raise ``InvalidRequest`` for a body that breaks
    the format (RFC 7578) or one of the limits above.
    """

    def __init__(
        self,
        content_type: str | None,
        *,
        texts: Collection[str] = (),
        long_fields: Mapping[str, int] = _NO_LONG_FIELDS,
    ) -> None:
        """Read the boundary from the request's Content-Type.

        Args:
            content_type: the header's value.
            texts: the fields whose text may come as a file, as ``curl -F field=@text.txt`` does.
            long_fields: the most bytes of fields that may be longer than ``MAX_FIELD_BYTES``.

        Raises:
            UnsupportedMediaType: it is not ``multipart/form-data``.
            InvalidRequest: it names no usable boundary.
        """
        media_type, parameters = parse_options_header(content_type)
        if media_type != b"multipart/form-data":
            raise UnsupportedMediaType(
                "send the audio as multipart/form-data in a part named 'file', as "
                f"{_EXAMPLE} does; this body is {media_type.decode('latin-1') or 'of no type'}"
            )
        boundary = parameters.get(b"boundary", b"")
        if not boundary:
            raise InvalidRequest("the Content-Type header names no multipart boundary")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise InvalidRequest("the multipart boundary is too long") from error
        self._texts = texts
        self._long_fields = long_fields
        self._events: list[Event] = []
        self._parts = 0
        self._file_seen = False
        self._ended = False
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._part_headers: dict[bytes, bytes] = {}
        self._field: str | None = None
        """The field being read; None while in the file."""
        self._value = bytearray()

    def feed(self, data: bytes) -> list[Event]:
        """Return what ``data`` completes or continues."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InvalidRequest("the multipart body is malformed") from error
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        """Take note that the body is over: it must have had a file and its closing boundary."""
        if not self._ended:
            raise InvalidRequest("the multipart body ends before its closing boundary")
        if not self._file_seen:
            raise InvalidRequest(
                f"the form has no file: send the audio in a part named 'file', as {_EXAMPLE} does"
            )

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise InvalidRequest(f"the form has more than {MAX_PARTS} parts")
        self._part_headers.clear()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._part_headers[bytes(self._header_name.lower())] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        disposition = self._part_headers.get(b"content-disposition", b"")
        kind, parameters = parse_options_header(disposition)
        name = unescape(parameters.get(b"name", b"")).decode(errors="replace")
        if kind != b"form-data" or not name:
            raise InvalidRequest("a part of the form has no name")
        has_file_name = _FILE_NAME.search(disposition) is not None
        media_type, _ = parse_options_header(self._part_headers.get(b"content-type", b""))
        looks_like_file = has_file_name or media_type.startswith(_MEDIA_TYPES)
        is_file = name == "file" or (looks_like_file and name not in self._texts)
        if not is_file:
            self._field = name
            self._value.clear()
            return
        if self._file_seen:
            raise InvalidRequest(
                f"the form has more than one file, the second as {name!r}: submit one job for each"
            )
        if name != "file":
            raise MisnamedField(
                f"the form has a file as {name!r}: send it as 'file', as {_EXAMPLE} does",
                {name: "file"},
            )
        if not has_file_name and b"content-type" not in self._part_headers:
            raise InvalidRequest(
                "the field 'file' is a text and not a file: did you forget the @, as in "
                f"{_EXAMPLE}?"
            )
        self._file_seen = True
        self._field = None
        self._events.append(FileBegin(form_file_name(disposition)))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._events.append(FileData(memoryview(data)[start:end]))
            return
        self._value += data[start:end]
        max_bytes = self._long_fields.get(self._field, MAX_FIELD_BYTES)
        if len(self._value) > max_bytes:
            raise self._not_a_text(self._field, f"is longer than {size(max_bytes)}")

    def _on_part_end(self) -> None:
        if self._field is None:
            return
        try:
            self._events.append(Field(self._field, self._value.decode()))
        except UnicodeDecodeError as error:
            raise self._not_a_text(self._field, "is not UTF-8 text") from error

    def _not_a_text(self, field: str, why: str) -> InvalidRequest:
        message = f"the field {field!r} {why}"
        if field not in self._texts and not self._file_seen:
            message += f"; if it is the audio, send it as 'file', as {_EXAMPLE} does"
        return InvalidRequest(message)

    def _on_end(self) -> None:
        self._ended = True
