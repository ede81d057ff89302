"""What becomes of a job by its owner's will: canceled, retried, deleted."""

from fastapi import APIRouter

from api.ids import existing_id
from api.openapi import problems
from api.resources import Provided, Tenant
from api.schemas.jobs import JobSummary
from api.summaries import summarize_job
from shared import steps
from shared.jobs import get_job

router = APIRouter(tags=["jobs"])

_UNAVAILABLE = "Postgres is away; see Retry-After"


@router.post(
    "/jobs/{job_id}/cancel",
    summary="Cancel a job",
    responses=problems(
        {404: "No such job", 409: "The job has succeeded or failed already", 503: _UNAVAILABLE}
    ),
)
def cancel_job(job_id: str, resources: Provided, tenant: Tenant) -> JobSummary:
    """Stop a job: at once if it is queued, within a chunk if it is running."""
    found_id = existing_id(job_id)
    steps.cancel_job(
        resources.engine, tenant, found_id, max_attempts=resources.settings.max_attempts
    )
    resources.doorbell.ring()  # an equal job may be transcribed in its place
    resources.remover.ring()
    return summarize_job(resources, get_job(resources.engine, tenant, found_id))


@router.post(
    "/jobs/{job_id}/retry",
    summary="Retry a failed job",
    status_code=202,
    responses=problems(
        {
            404: "No such job",
            409: "The job has not failed (job_not_failed), or its audio was removed (audio_gone)",
            503: _UNAVAILABLE,
        }
    ),
)
def retry_job(job_id: str, resources: Provided, tenant: Tenant) -> JobSummary:
    """Take up a failed job where it stopped: chunks that are transcribed stay so.

    Its `run` is raised. The end of every run is a webhook event of its own.
    """
    found_id = existing_id(job_id)
    steps.retry_job(
        resources.engine, tenant, found_id, max_attempts=resources.settings.max_attempts
    )
    resources.doorbell.ring()
    resources.remover.ring()  # an equal job may have been transcribed meanwhile
    return summarize_job(resources, get_job(resources.engine, tenant, found_id))


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
    steps.delete_job(
        resources.engine,
        tenant,
        existing_id(job_id),
        max_attempts=resources.settings.max_attempts,
    )
    resources.doorbell.ring()
    resources.remover.ring()
