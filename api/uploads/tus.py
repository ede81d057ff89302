"""Resumable uploads through the API: tus 1.0 (https://tus.io/protocols/resumable-upload).

The extensions ``creation``, ``creation-with-upload``, ``termination``, ``expiration`` and
``checksum`` are offered. ``api.uploads.tus_headers`` adds what all answers have.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import format_datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from uuid_utils.compat import uuid7

from api.access.routes import needs
from api.intake.bodies import client_network, declared_bytes, read_upload
from api.intake.landing import too_large
from api.openapi import BODY_ERRORS, problems
from api.resources import Provided, Resources, Tenant
from api.uploads.append import Digest
from api.uploads.routes import UploadId
from api.uploads.schemas import SHA256_PATTERN, Upload
from api.uploads.transfers import MAX_RESUMABLE_BYTES, max_bytes
from api.uploads.tus_headers import CHECKSUMS, MEDIA_TYPE, VERSION
from api.uploads.uploads import Body
from shared.infra import errors
from shared.infra.file_names import clean_file_name
from shared.store.accounts.scopes import Scope
from shared.store.states import UploadState
from shared.store.uploads import NewUpload
from shared.store.uploads import Upload as StoredUpload

MAX_METADATA_CHARS = 4096
_PAIR = re.compile(r"([^\s,]+)(?: ([A-Za-z0-9+/]*={0,2}))?")

_DIGESTS: Mapping[str, Callable[[], Digest]] = {
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
}
assert set(_DIGESTS) == set(CHECKSUMS)


async def check_version(request: Request) -> None:
    """See that the client speaks our version; a dependency of all routes here.

    GET, as which HEAD is answered, may come from a client that speaks no tus.

    Raises:
        TusVersion: it does not.
    """
    given = request.headers.get("tus-resumable")
    if given != VERSION and (given is not None or request.method != "GET"):
        raise errors.TusVersion(f"send 'Tus-Resumable: {VERSION}'")


router = APIRouter(tags=["uploads"], dependencies=[Depends(check_version)])


def _header(
    name: str, description: str, *, required: bool = False, example: Any = None, **schema: Any
) -> Any:
    header = {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string", **schema},
    }
    return header if example is None else header | {"example": example}


_RESUMABLE = _header(
    "Tus-Resumable", "the protocol's version", required=True, example=VERSION, enum=[VERSION]
)
_CHECKSUM = _header(
    "Upload-Checksum",
    "of the body alone: the algorithm, a space, and the digest in base64",
    pattern=f"^({'|'.join(CHECKSUMS)}) [A-Za-z0-9+/]{{22,43}}={{1,2}}$",
)
_OFFSET = {"schema": {"type": "integer"}, "description": "how much of the file is stored"}
_EXPIRES = {"schema": {"type": "string"}, "description": "when the upload is removed"}
_APPEND_PROBLEMS = (
    *BODY_ERRORS,
    errors.UploadTooLarge,
    errors.ChecksumUnknown,
    errors.ChecksumMismatch,
    errors.DigestMismatch,
    errors.OffsetMismatch,
    errors.UploadNotFound,
    errors.TooManyUploads,
    errors.TooManyAtOnce,
    errors.StorageUnavailable,
    errors.TusVersion,
)


def _bytes_body(*, required: bool) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}
    return {"required": required, "content": content}


@needs(Scope.JOBS_WRITE)
@router.post(
    "/uploads/tus",
    summary="Begin a resumable upload (tus)",
    status_code=201,
    response_class=Response,
    openapi_extra={
        "parameters": [
            _RESUMABLE,
            _header(
                "Upload-Length",
                "the file's exact size in bytes",
                required=True,
                example=1_048_576,
                type="integer",
                minimum=1,
                maximum=MAX_RESUMABLE_BYTES,
            ),
            _header(
                "Upload-Metadata",
                "`filename` and `sha256` (hex digest of the file) count; values are in base64",
                example="filename dGFsay5tcDM=",
                maxLength=MAX_METADATA_CHARS,
            ),
            _CHECKSUM,
        ],
        "requestBody": _bytes_body(required=False),
    },
    responses=problems(errors.EmptyFile, errors.TooManyOpenUploads, *_APPEND_PROBLEMS)
    | {
        201: {
            "description": "The upload has begun; its id is the last part of its Location",
            "headers": {
                "Location": {"required": True, "schema": {"type": "string"}},
                "Upload-Offset": _OFFSET,
                "Upload-Expires": _EXPIRES,
            },
        }
    },
)
async def begin_tus_upload(request: Request, resources: Provided, tenant: Tenant) -> Response:
    """Declare a file, and perhaps send its beginning (`creation-with-upload`).

    The answer's `Location` is where to PATCH the rest; the last part of it is the upload's id.
    """
    has_body = _has_body(request)
    n_bytes = _length(request)
    checksum = _checksum(request)
    limits = await resources.limits.get(tenant)
    if n_bytes > (most := max_bytes(limits, MAX_RESUMABLE_BYTES)):
        raise too_large(most)
    metadata = request.headers.get("upload-metadata", "")
    name, sha256 = _read_metadata(metadata)
    declared = NewUpload(
        id=uuid7(),
        tenant=tenant,
        name=clean_file_name(name),
        size_bytes=n_bytes,
        sha256=sha256,
        resumable=True,
        metadata=metadata or None,
    )
    upload = await resources.uploads.create(declared, limits)
    if has_body:
        upload = await _append(request, resources, tenant, upload.id, 0, checksum)
    headers = {"Location": f"/uploads/tus/{upload.id}", **_progress(upload)}
    return Response(status_code=201, headers=headers)


@needs(Scope.JOBS_WRITE)
@router.get(
    "/uploads/tus/{upload_id}",
    summary="See how far a resumable upload is (tus)",
    openapi_extra={"parameters": [_header("Tus-Resumable", "of a tus client", enum=[VERSION])]},
    responses=problems(errors.UploadNotFound, errors.StorageUnavailable, errors.TusVersion)
    | {
        200: {
            "description": "The upload",
            "headers": {
                "Upload-Offset": {"required": True, **_OFFSET},
                "Upload-Length": {"required": True, "schema": {"type": "integer"}},
                "Upload-Expires": _EXPIRES,
            },
        }
    },
)
async def show_tus_upload(
    upload_id: UploadId, response: Response, resources: Provided, tenant: Tenant
) -> Upload:
    """Return a resumable upload, with the headers that tus clients ask for by HEAD.

    If the object store has lost the upload's parts, its offset is 0: it begins anew.
    """
    upload, _ = await resources.uploads.parts(tenant, upload_id)
    if not upload.resumable:
        raise errors.UploadNotFound(f"there is no resumable upload {upload_id}")
    response.headers.update(_progress(upload))
    response.headers["Upload-Length"] = str(upload.size_bytes)
    if upload.metadata is not None:
        response.headers["Upload-Metadata"] = upload.metadata
    return Upload.of(upload)


@needs(Scope.JOBS_WRITE)
@router.patch(
    "/uploads/tus/{upload_id}",
    summary="Append to a resumable upload (tus)",
    status_code=204,
    response_class=Response,
    openapi_extra={
        "parameters": [
            _RESUMABLE,
            _header(
                "Upload-Offset",
                "where the upload ends, and the body begins",
                required=True,
                example=0,
                type="integer",
                minimum=0,
                maximum=MAX_RESUMABLE_BYTES,
            ),
            _CHECKSUM,
        ],
        "requestBody": _bytes_body(required=True),
    },
    responses=problems(*_APPEND_PROBLEMS)
    | {
        204: {
            "description": "All of the body is stored",
            "headers": {
                "Upload-Offset": {"required": True, **_OFFSET},
                "Upload-Expires": _EXPIRES,
            },
        }
    },
)
async def append_to_tus_upload(
    upload_id: UploadId, request: Request, resources: Provided, tenant: Tenant
) -> Response:
    """Append bytes; a body that is cut off is kept as far as it came.

    The last byte completes the upload, whose size and SHA-256 are checked then. A PATCH goes on
    where another left off that is still under way, and ends that one.
    """
    if not _has_body(request):
        raise errors.UnsupportedMediaType(f"send the body as {MEDIA_TYPE}")
    offset = _number(request, "upload-offset")
    checksum = _checksum(request)
    upload = await _append(request, resources, tenant, upload_id, offset, checksum)
    return Response(status_code=204, headers=_progress(upload))


@needs(Scope.JOBS_WRITE)
@router.delete(
    "/uploads/tus/{upload_id}",
    summary="Terminate a resumable upload (tus)",
    status_code=204,
    openapi_extra={"parameters": [_RESUMABLE]},
    responses=problems(errors.UploadNotFound, errors.TusVersion),
)
async def terminate_tus_upload(upload_id: UploadId, resources: Provided, tenant: Tenant) -> None:
    """Remove an upload and what was sent of it."""
    await resources.uploads.delete(tenant, upload_id)


async def _append(
    request: Request,
    resources: Resources,
    tenant: str,
    upload_id: UUID,
    offset: int,
    checksum: tuple[Digest, bytes] | None,
) -> StoredUpload:
    body = Body(
        n_bytes=declared_bytes(request),
        client=client_network(request),
        data=read_upload(request, resources.upload_bytes.inc),
        checksum=checksum,
    )
    upload = await resources.uploads.append(tenant, upload_id, offset, body)
    if upload.state is UploadState.FAILED:
        raise errors.DigestMismatch(f"the SHA-256 of upload {upload_id} is not {upload.sha256}")
    return upload


def _progress(upload: StoredUpload) -> dict[str, str]:
    headers = {"Upload-Offset": str(upload.offset_bytes)}
    if not upload.held:
        expires_at = upload.expires_at.astimezone(UTC)
        headers["Upload-Expires"] = format_datetime(expires_at, usegmt=True)
    return headers


def _has_body(request: Request) -> bool:
    """Whether the request appends anything.

    Raises:
        UnsupportedMediaType: it has a body of another type than that of appended bytes.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == MEDIA_TYPE:
        return True
    if media_type or declared_bytes(request) or "transfer-encoding" in request.headers:
        raise errors.UnsupportedMediaType(
            f"send the body as {MEDIA_TYPE}; this one is {media_type or 'of no type'}"
        )
    return False


def _number(request: Request, name: str) -> int:
    given = request.headers.get(name, "")
    if not re.fullmatch("[0-9]{1,18}", given):
        raise errors.InvalidRequest(f"{name} must be a number of bytes")
    return int(given)


def _length(request: Request) -> int:
    if "upload-defer-length" in request.headers:
        raise errors.InvalidRequest("the length must be known: send Upload-Length")
    if (n_bytes := _number(request, "upload-length")) == 0:
        raise errors.EmptyFile("the file is empty")
    return n_bytes


def _read_metadata(given: str) -> tuple[str, str | None]:
    """Return the file's name and its declared digest; other metadata are the client's own.

    Raises:
        InvalidRequest: it is malformed or too long.
    """
    if len(given) > MAX_METADATA_CHARS:
        raise errors.InvalidRequest(
            f"Upload-Metadata has more than {MAX_METADATA_CHARS} characters"
        )
    values: dict[str, str] = {}
    for pair in filter(None, (each.strip() for each in given.split(","))):
        parsed = _PAIR.fullmatch(pair)
        if parsed is None or parsed[1] not in ("filename", "name", "sha256"):
            continue
        try:
            values[parsed[1]] = base64.b64decode(parsed[2] or "", validate=True).decode()
        except ValueError as error:
            raise errors.InvalidRequest(
                f"{parsed[1]} in Upload-Metadata is not UTF-8 in base64"
            ) from error
    sha256 = values.get("sha256", "").lower() or None
    if sha256 is not None and not re.fullmatch(SHA256_PATTERN, sha256):
        raise errors.InvalidRequest("sha256 in Upload-Metadata is not a digest of 64 hex digits")
    return values.get("filename") or values.get("name", ""), sha256


def _checksum(request: Request) -> tuple[Digest, bytes] | None:
    """Return a fresh digest and what the body's must be, if the client says that.

    Raises:
        ChecksumUnknown: the algorithm is not known here, or the value is malformed.
    """
    given = request.headers.get("upload-checksum")
    if given is None:
        return None
    algorithm, _, encoded = given.strip().partition(" ")
    try:
        digest, expected = _DIGESTS[algorithm](), base64.b64decode(encoded, validate=True)
        if len(expected) == len(digest.digest()):
            return digest, expected
    except (KeyError, ValueError):
        pass
    raise errors.ChecksumUnknown(
        f"Upload-Checksum is one of {', '.join(CHECKSUMS)}, a space, and the digest in base64"
    )
