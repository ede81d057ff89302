"""A JSON body as a source of a job: it names the file by a URL or an upload, or carries it."""

import binascii
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from anyio import to_thread
from pydantic import Field, ValidationError

from api.intake.form import JSON_SOURCES
from api.intake.landing import too_large
from api.intake.submit import Intake, JobRequest, Remote, Source, Uploaded
from api.validation import refusal
from shared.infra.errors import ConflictingOptions, InvalidRequest
from shared.infra.file_names import NAMELESS, clean_file_name, url_file_name
from shared.infra.outbound import MAX_URL_CHARS, URL_PATTERN
from shared.models.options import MAX_METADATA_BYTES, JobOptions
from shared.speech.text.accuracy import MAX_REFERENCE_CHARS
from shared.store.uploads import check_complete, get_upload

_OPTIONS = set(JobOptions.model_fields)
_OTHER_BYTES = 64 * 1024
"""Of a body, beside the file, the reference and the metadata."""


_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"


class FileReference(JobOptions):
    """A file that is not sent along, and the options of its job."""

    upload_id: UUID | None = Field(default=None, description="a file uploaded before")
    audio_url: str | None = Field(
        default=None,
        max_length=MAX_URL_CHARS,
        description="where the file is; it is fetched by a worker, its host must be public",
        json_schema_extra={"pattern": URL_PATTERN},
        examples=["https://example.com/talk.mp3"],
    )
    file_name: str | None = Field(
        default=None, max_length=255, description="omitted: as the file's URL or upload names it"
    )


class JsonJob(FileReference):
    """The JSON body of ``POST /jobs``: exactly one file, and its job's options."""

    audio_base64: str | None = Field(
        default=None,
        description="a small file itself (LONGHAND_MAX_BASE64_BYTES), as base64",
        json_schema_extra={"contentEncoding": "base64", "pattern": _BASE64},
    )


def json_job_schema() -> dict[str, Any]:
    """Return the JSON schema of a ``JsonJob``."""
    return JsonJob.model_json_schema() | {
        "oneOf": [
            {"required": [name], "properties": {name: {"type": "string"}}} for name in JSON_SOURCES
        ],
        "examples": [{"audio_url": "https://example.com/talk.mp3", "language": "en"}],
    }


def max_json_bytes(max_base64_bytes: int) -> int:
    """Return the most bytes that a body may have which carries a file of ``max_base64_bytes``."""
    # Escaped, a character of nearly any script has six bytes.
    texts = 6 * (MAX_REFERENCE_CHARS + MAX_METADATA_BYTES)
    return max_base64_bytes * 4 // 3 + texts + _OTHER_BYTES


class Held:
    """A file in memory; a ``Source`` (``api.intake.submit``)."""

    def __init__(self, audio: bytes, client: str, request: JobRequest) -> None:
        self.n_bytes = len(audio)
        self.client = client
        self._audio = audio
        self._request = request

    async def begin(self) -> None:
        """Return at once: it is there."""

    async def data(self) -> AsyncIterator[bytes]:
        """Yield it."""
        yield self._audio

    def request(self) -> JobRequest:
        """Return what is asked."""
        return self._request


def parse_json_job(body: bytes) -> JsonJob:
    """Return a body's content; no value of another type is converted.

    Raises:
        InvalidRequest: it is malformed.
        UnsupportedLanguage: nothing else is wrong, and there is no such language.
    """
    try:
        return JsonJob.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise refusal(error, JsonJob.model_fields, "the body is wrong: ") from error


async def json_source(
    intake: Intake, tenant: str, job: JsonJob, *, client: str, max_file_bytes: int
) -> Source | Remote | Uploaded:
    """Return the file that a body names or carries, its options checked.

    Raises:
        RequestError: the body names none, or more than one, or what it asks is refused.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    given = [name for name in JSON_SOURCES if getattr(job, name) is not None]
    if len(given) != 1:
        kind = ConflictingOptions if given else InvalidRequest
        raise kind(f"a JSON body has exactly one of {', '.join(JSON_SOURCES)}")
    if job.audio_base64 is None:
        return await reference_source(intake, tenant, job)
    most = min(intake.settings.max_base64_bytes, max_file_bytes)
    if len(job.audio_base64) > (most + 2) // 3 * 4:
        raise too_large(most, "LONGHAND_MAX_BASE64_BYTES")
    try:
        audio = binascii.a2b_base64(job.audio_base64, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("audio_base64 is not base64") from error
    if len(audio) > most:
        raise too_large(most, "LONGHAND_MAX_BASE64_BYTES")
    return Held(audio, client, await _asked(intake, job, job.file_name or NAMELESS))


async def reference_source(intake: Intake, tenant: str, named: FileReference) -> Remote | Uploaded:
    """Return the file that is named by one of ``audio_url`` and ``upload_id``.

    Raises:
        RequestError: it is refused, or the options are.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    if named.audio_url is not None:
        intake.outbound.check_url(named.audio_url)
        name = named.file_name or url_file_name(named.audio_url)
        return Remote(named.audio_url, await _asked(intake, named, name))
    assert named.upload_id is not None
    found = await to_thread.run_sync(get_upload, intake.engine, tenant, named.upload_id)
    upload = check_complete(found)
    return Uploaded(upload, await _asked(intake, named, named.file_name or upload.name))


async def _asked(intake: Intake, job: FileReference, file_name: str) -> JobRequest:
    asked = JobOptions.model_construct(**{name: getattr(job, name) for name in _OPTIONS})
    return JobRequest(clean_file_name(file_name), asked, await intake.options.resolve(asked))
