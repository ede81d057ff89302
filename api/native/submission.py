"""Submitting a file as a form."""

from functools import partial

from fastapi import APIRouter, Request, Response

from api.intake.bodies import declared_bytes, read_upload
from api.intake.form import MultipartForm
from api.intake.submit import submit
from api.native.answers import accepted
from api.native.schemas.jobs import Job
from api.openapi import BODY_ERRORS, job_form, located, problems
from api.resources import Provided, Tenant
from shared.infra import errors

router = APIRouter(tags=["jobs"])


@router.post(
    "/jobs",
    summary="Submit a file",
    status_code=202,
    response_model=Job,
    openapi_extra=job_form(),
    responses=problems(
        *BODY_ERRORS,
        errors.ModelNotServed,
        errors.UploadTooLarge,
        errors.UnknownModel,
        errors.UnsupportedLanguage,
        errors.UnsupportedOption,
        errors.EmptyFile,
        errors.ForbiddenUrl,
        errors.TooManyUploads,
        errors.StorageUnavailable,
    )
    | {202: located("The job is committed and its file stored")},
)
async def submit_job(request: Request, resources: Provided, tenant: Tenant) -> Response:
    """Take a file and queue its transcription, unless the same was transcribed before.

    If the same model has transcribed the same bytes with the same options, the job has succeeded at
    once: its `cached` is true, and the answer has its transcript. The `cache` field turns that off.
    """
    form = MultipartForm(
        request.headers.get("content-type"),
        declared_bytes(request),
        read_upload(request, resources.upload_bytes.inc),
        resources.intake.options,
        max_file_bytes=resources.settings.max_upload_bytes,
    )
    return await submit(resources.intake, tenant, form, partial(accepted, resources, tenant))
