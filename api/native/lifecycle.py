"""What becomes of a job by its owner's will: canceled, retried, deleted."""

from fastapi import APIRouter, Response

from api.native.answers import answer_with_job
from api.native.ids import existing_id
from api.native.schemas.jobs import Job
from api.openapi import problems
from api.resources import Provided, Tenant
from shared.store.jobs import cancel, delete, retry
from shared.store.jobs.read import get_job

router = APIRouter(tags=["jobs"])

_UNAVAILABLE = "Postgres is away; see Retry-After"


@router.post(
    "/jobs/{job_id}/cancel",
    summary="Cancel a job",
    response_model=Job,
    responses=problems(
        {404: "No such job", 409: "The job has succeeded or failed already", 503: _UNAVAILABLE}
    ),
)
def cancel_job(job_id: str, resources: Provided, tenant: Tenant) -> Response:
    """Stop a job: at once if it is queued, within a chunk if it is running.

    It can be taken up again (`/retry`) while its audio is kept.
    """
    found_id = existing_id(job_id)
    attempts = resources.settings.max_attempts
    cancel.cancel_job(resources.engine, tenant, found_id, max_attempts=attempts)
    view = get_job(resources.engine, tenant, found_id)
    return answer_with_job(resources, tenant, view)


@router.post(
    "/jobs/{job_id}/retry",
    summary="Retry a failed or canceled job",
    status_code=202,
    response_model=Job,
    responses=problems(
        {
            404: "No such job",
            409: "The job has neither failed nor been canceled (job_not_retryable), or its audio "
            "was removed (audio_gone)",
            503: _UNAVAILABLE,
        }
    ),
)
def retry_job(job_id: str, resources: Provided, tenant: Tenant) -> Response:
    """Take up a job that failed or was canceled where it stopped: what is transcribed stays so.

    Its `run` is raised. The end of every run is a webhook event of its own.
    """
    found_id = existing_id(job_id)
    attempts = resources.settings.max_attempts
    retry.retry_job(resources.engine, tenant, found_id, max_attempts=attempts)
    resources.remover.ring()  # an equal job may have been transcribed meanwhile
    view = get_job(resources.engine, tenant, found_id)
    return answer_with_job(resources, tenant, view, status_code=202)


@router.delete(
    "/jobs/{job_id}",
    summary="Delete a job",
    status_code=204,
    responses=problems({404: "No such job, or not any more", 503: _UNAVAILABLE}),
)
def delete_job(job_id: str, resources: Provided, tenant: Tenant) -> None:
    """Remove a job, its transcript, its audio and its events; if it is running, stop it.

    Webhook deliveries that are still to be made are not made any more. A job that waits for this
    one is transcribed in its place; jobs that share its transcript keep it. The audio leaves the
    object store at once, or as soon as that can be reached.
    """
    delete.delete_job(
        resources.engine,
        tenant,
        existing_id(job_id),
        max_attempts=resources.settings.max_attempts,
    )
    resources.remover.ring()
