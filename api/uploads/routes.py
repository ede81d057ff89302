"""Uploads to the object store itself: created, completed and deleted here, sent there."""

from collections.abc import Container
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from uuid_utils.compat import uuid7

from api.access.routes import needs
from api.intake.bodies import json_body, read_json
from api.intake.landing import too_large
from api.native.ids import UUID_SCHEMA, parse_id
from api.openapi import BODY_ERRORS, located, problems
from api.resources import Provided, Resources, Tenant
from api.uploads.schemas import NewUpload, Upload, UploadPart, UploadParts
from api.uploads.transfers import MAX_DIRECT_BYTES, max_bytes, n_parts, part_of
from shared.infra import errors
from shared.infra.file_names import clean_file_name
from shared.store.accounts.scopes import Scope
from shared.store.states import UploadState
from shared.store.uploads import NewUpload as Declared
from shared.store.uploads import Upload as StoredUpload

router = APIRouter(tags=["uploads"])

URL_S = 3_600
"""How long a part's URL is valid. A part that is under way then is taken."""
MAX_PARTS_SHOWN = 100


async def _upload_id(upload_id: Annotated[str, Path(**UUID_SCHEMA)]) -> UUID:
    found = parse_id(upload_id)
    if found is None:
        raise errors.UploadNotFound(f"there is no upload {upload_id}")
    return found


UploadId = Annotated[UUID, Depends(_upload_id)]


@needs(Scope.JOBS_WRITE)
@router.post(
    "/uploads",
    summary="Begin an upload to the object store",
    status_code=201,
    response_model=UploadParts,
    openapi_extra=json_body(NewUpload),
    responses=problems(
        *BODY_ERRORS,
        errors.UploadTooLarge,
        errors.TooManyOpenUploads,
        errors.StorageUnavailable,
    )
    | {201: located("The upload, and where to send its parts", "the upload")},
)
async def begin_upload(
    request: Request, response: Response, resources: Provided, tenant: Tenant
) -> UploadParts:
    """Declare a file, and get URLs at which the object store takes its parts.

    A file of up to 64 MiB is one part: one PUT. Of a larger one the answer has the URLs of the
    first 100 parts; send them in any order, several at once. Then complete the upload.
    """
    given = await read_json(request, NewUpload)
    limits = await resources.limits.get(tenant)
    if given.bytes > (most := max_bytes(limits, MAX_DIRECT_BYTES)):
        raise too_large(most)
    declared = Declared(
        id=uuid7(),
        tenant=tenant,
        name=clean_file_name(given.name),
        size_bytes=given.bytes,
        sha256=given.sha256,
        resumable=False,
    )
    upload = await resources.uploads.create(declared, limits)
    response.headers["Location"] = f"/uploads/{upload.id}"
    return await _with_parts(resources, upload, stored=(), first=1, count=MAX_PARTS_SHOWN)


@needs(Scope.JOBS_WRITE)
@router.get(
    "/uploads/{upload_id}",
    summary="Get an upload",
    responses=problems(errors.UploadNotFound, errors.StorageUnavailable),
)
async def show_upload(upload_id: UploadId, resources: Provided, tenant: Tenant) -> Upload:
    """Return an upload's state."""
    return Upload.of(await resources.uploads.get(tenant, upload_id))


@needs(Scope.JOBS_WRITE)
@router.get(
    "/uploads/{upload_id}/parts",
    summary="Get where to send an upload's parts",
    responses=problems(errors.UploadNotFound, errors.StorageUnavailable),
)
async def show_parts(
    upload_id: UploadId,
    resources: Provided,
    tenant: Tenant,
    first: Annotated[int, Query(ge=1, description="number of the first part to show")] = 1,
    count: Annotated[int, Query(ge=1, le=MAX_PARTS_SHOWN)] = MAX_PARTS_SHOWN,
) -> UploadParts:
    """Return a page of an upload's parts with new URLs, and which of them are stored.

    So an upload that was cut off goes on with the parts that are not. If the object store has lost
    parts, they are not stored and the URLs from before are of no use. An upload that is not open,
    or comes by tus, has no parts to send.
    """
    upload, stored = await resources.uploads.parts(tenant, upload_id)
    return await _with_parts(resources, upload, stored=stored, first=first, count=count)


@needs(Scope.JOBS_WRITE)
@router.post(
    "/uploads/{upload_id}/complete",
    summary="Complete an upload",
    response_model=Upload,
    responses=problems(
        errors.UploadNotFound,
        errors.UploadIncomplete,
        errors.DigestMismatch,
        errors.StorageUnavailable,
    )
    | {202: {"description": "The file is stored; its SHA-256 is still being computed"}},
)
async def complete_upload(
    upload_id: UploadId, response: Response, resources: Provided, tenant: Tenant
) -> Upload:
    """Say that all parts are sent: the file is put together, its size and SHA-256 are checked.

    That takes some seconds for each GB. After 30 s the answer is 202 and the state `verifying`:
    jobs can be made of the upload once it is `complete`. May be asked any number of times.
    """
    upload = await resources.uploads.complete(tenant, upload_id)
    if upload.state is UploadState.FAILED:
        raise errors.DigestMismatch(f"the SHA-256 of upload {upload_id} is not {upload.sha256}")
    if upload.state is UploadState.VERIFYING:
        response.status_code = 202
    return Upload.of(upload)


@needs(Scope.JOBS_WRITE)
@router.delete(
    "/uploads/{upload_id}",
    summary="Abort or delete an upload",
    status_code=204,
    responses=problems(errors.UploadNotFound),
)
async def delete_upload(upload_id: UploadId, resources: Provided, tenant: Tenant) -> None:
    """Remove an upload and what was sent of it. Its URLs are of no use any more.

    Jobs that were made of it keep its file as long as they would keep any.
    """
    await resources.uploads.delete(tenant, upload_id)


async def _with_parts(
    resources: Resources,
    upload: StoredUpload,
    *,
    stored: Container[int],
    first: int,
    count: int,
) -> UploadParts:
    is_sent_there = upload.state is UploadState.OPEN and not upload.resumable
    total = n_parts(upload)
    numbers = range(first, min(total, first + count - 1) + 1) if is_sent_there else range(0)
    expires_at = datetime.now(UTC) + timedelta(seconds=URL_S)
    urls = await resources.uploads.part_urls(upload, numbers, valid_s=URL_S) if numbers else []
    parts = [
        UploadPart(
            number=number,
            bytes=part_of(upload, number).n_bytes,
            url=url,
            stored=number in stored,
        )
        for number, url in zip(numbers, urls, strict=True)
    ]
    return UploadParts.with_parts(
        upload, parts, total=total, url_expires_at=expires_at if parts else None
    )
