"""Submitting a file as a form."""

from functools import partial

from fastapi import APIRouter, Request, Response

from api.intake.bodies import declared_bytes, read_upload
from api.intake.form import MultipartForm
from api.intake.submit import submit
from api.native.answers import answer_with_job
from api.native.schemas.jobs import Job
from api.openapi import job_form, problems
from api.resources import Provided, Resources, Tenant
from shared.store.jobs.read import JobView

router = APIRouter(tags=["jobs"])


@router.post(
    "/jobs",
    summary="Submit a file",
    status_code=202,
    response_model=Job,
    openapi_extra=job_form(),
    responses=problems(
        {
            408: "The sender fell silent, or took longer than 12 hours",
            409: "No worker serves the model; the member `served_models` lists those that are",
            413: "The file is larger than LONGHAND_MAX_UPLOAD_BYTES, by default 2 GiB",
            415: "The body is not multipart/form-data",
            422: "The form, an option or the file is wrong",
            503: "Postgres or the object store is away, or too many uploads are under way; see "
            "Retry-After",
        }
    )
    | {
        202: {
            "description": "The job is committed and its file stored",
            "headers": {"Location": {"schema": {"type": "string"}, "description": "the job"}},
        }
    },
)
async def submit_job(request: Request, resources: Provided, tenant: Tenant) -> Response:
    """Take a file and queue its transcription, unless the same was transcribed before.

    A file of the same bytes with the same options, that was transcribed by the same model before,
    gives a job that has succeeded already: its `cached` is true, and its transcript is in the
    answer. The `cache` field turns that off.
    """
    form = MultipartForm(
        request.headers.get("content-type"),
        declared_bytes(request),
        read_upload(request, resources.upload_bytes.inc),
        resources.intake.options,
        max_file_bytes=resources.settings.max_upload_bytes,
    )
    return await submit(resources.intake, tenant, form, partial(_accepted, resources, tenant))


def _accepted(resources: Resources, tenant: str, view: JobView) -> Response:
    response = answer_with_job(resources, tenant, view, status_code=202)
    response.headers["Location"] = f"/jobs/{view.id}"
    return response
