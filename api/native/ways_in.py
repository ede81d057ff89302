"""The ways in of ``POST /jobs``, told apart by the body's media type."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

from fastapi import Request

from api.intake.bodies import (
    MAX_JSON_BYTES,
    client_network,
    declared_bytes,
    read_upload,
)
from api.intake.form import Fields, FormFields, MultipartForm
from api.intake.json_job import json_source, max_json_bytes, parse_json_job
from api.intake.multipart import Field
from api.intake.raw import FILE_NAME, RAW_BINARY, RAW_TYPES, RawBody
from api.intake.submit import Remote, Source, Uploaded
from api.resources import Resources
from shared.infra.errors import (
    ConflictingOptions,
    TooManyUploads,
    UnsupportedMediaType,
    UploadTooLarge,
)
from shared.infra.file_names import NAMELESS, clean_file_name, header_file_name
from shared.infra.quantities import size
from shared.models.options import JobOptions

RAW_PARAMETERS = (FILE_NAME, *JobOptions.model_fields)
"""Query parameters that are a raw body's options."""


@asynccontextmanager
async def source_of(
    request: Request, resources: Resources, tenant: str
) -> AsyncIterator[Source | Remote | Uploaded]:
    """Give the block the file of a request, whichever way it comes.

    Of a file that is sent, nothing is read yet; a JSON body is read.

    Raises:
        RequestError: what is known so far is refused.
        TooManyUploads: as many large JSON bodies are in memory as may.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    given = [each for each in request.query_params.multi_items() if each[0] in RAW_PARAMETERS]
    if media_type.startswith(RAW_TYPES) or media_type in RAW_BINARY:
        yield _raw(request, resources, tenant, given)
        return
    if given:
        raise ConflictingOptions(
            f"{', '.join(name for name, _ in given)}: only a raw body has its options in the "
            "query; a form has them as fields, and JSON as members"
        )
    if media_type == "application/json":
        with _json_place(request, resources, tenant):
            yield await _json(request, resources, tenant)
        return
    if media_type != "multipart/form-data":
        raise UnsupportedMediaType(
            "send the audio as multipart/form-data in a part named 'file', as curl -F "
            "file=@talk.mp3 URL does, or raw with curl -H 'Content-Type: audio/mpeg' "
            "--data-binary @talk.mp3 URL, or name it in a JSON body; "
            f"this body is {media_type or 'of no type'}"
        )
    yield form_of(request, resources, tenant)


def form_of(
    request: Request, resources: Resources, tenant: str, fields: Fields | None = None
) -> MultipartForm:
    """Return the form that a tenant's request sends; its body is not read yet.

    ``fields`` reads the fields of a dialect.

    Raises:
        RequestError: the head of the request tells that it is no usable form, or too large.
    """
    return MultipartForm(
        request.headers.get("content-type"),
        declared_bytes(request),
        read_upload(request, resources.upload_bytes.inc),
        resources.intake.options,
        client=client_network(request),
        max_file_bytes=resources.limits.known(tenant).max_upload_bytes,
        fields=fields,
    )


def _raw(
    request: Request, resources: Resources, tenant: str, given: Sequence[tuple[str, str]]
) -> RawBody:
    asked_name = request.query_params.get(FILE_NAME, "")
    fields = FormFields("query parameters", (FILE_NAME,))
    for name, value in given:
        if name != FILE_NAME:
            fields.add(Field(name, value))
    sent_name = header_file_name(request.headers.get("content-disposition", ""))
    return RawBody(
        declared_bytes(request),
        read_upload(request, resources.upload_bytes.inc),
        fields.asked(),
        clean_file_name(asked_name) if asked_name else sent_name or NAMELESS,
        resources.intake.options,
        client=client_network(request),
        max_file_bytes=resources.limits.known(tenant).max_upload_bytes,
    )


async def _json(request: Request, resources: Resources, tenant: str) -> Source | Remote | Uploaded:
    most = max_json_bytes(resources.settings.max_base64_bytes)
    body = await _read(request, resources, most)
    return await json_source(
        resources.intake,
        tenant,
        parse_json_job(body),
        client=client_network(request),
        max_file_bytes=resources.limits.known(tenant).max_upload_bytes,
    )


async def read_json_body(
    request: Request, resources: Resources, tenant: str, max_bytes: int
) -> bytes:
    """Return a JSON body.

    Raises:
        UnsupportedMediaType: it is something else.
        UploadTooLarge: it is larger than ``max_bytes``.
        UploadStalled: it does not come whole.
        TooManyUploads: as many large JSON bodies are in memory as may.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType(
            "send the body as application/json, with curl -H 'Content-Type: application/json'; "
            f"this one is {media_type or 'of no type'}"
        )
    with _json_place(request, resources, tenant):
        return await _read(request, resources, max_bytes)


def _json_place(
    request: Request, resources: Resources, tenant: str
) -> AbstractContextManager[None]:
    """Return what holds a place while a JSON body is in memory; small ones need none."""
    n_bytes = declared_bytes(request)
    if n_bytes is not None and n_bytes <= MAX_JSON_BYTES:
        return nullcontext()
    return resources.intake.json_places.place(tenant, _too_many)


async def _read(request: Request, resources: Resources, max_bytes: int) -> bytes:
    body = bytearray()
    async for piece in read_upload(request, resources.upload_bytes.inc):
        body += piece
        if len(body) > max_bytes:
            raise UploadTooLarge(f"the JSON body is larger than {size(max_bytes)}")
    return bytes(body)


def _too_many() -> TooManyUploads:
    return TooManyUploads("as many large JSON bodies are under way as may be")
