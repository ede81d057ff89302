"""What owners do with their jobs: cancel, retry, delete."""

from fastapi import APIRouter, Response

from api.native.answers import answer_with_job
from api.native.ids import JobId
from api.native.schemas.jobs import Job
from api.openapi import problems
from api.resources import Provided, Tenant
from shared.infra.errors import AudioGone, JobEnded, JobNotFound, JobNotRetryable
from shared.store.jobs import cancel, delete, retry
from shared.store.jobs.read import get_job

router = APIRouter(tags=["jobs"])


@router.post(
    "/jobs/{job_id}/cancel",
    summary="Cancel a job",
    response_model=Job,
    responses=problems(JobNotFound, JobEnded),
)
def cancel_job(job_id: JobId, resources: Provided, tenant: Tenant) -> Response:
    """Stop a job: at once if it is queued, within a chunk if it is running.

    It can be taken up again (`/retry`) while its audio is kept.
    """
    attempts = resources.settings.max_attempts
    cancel.cancel_job(resources.engine, tenant, job_id, max_attempts=attempts)
    return answer_with_job(resources, tenant, get_job(resources.engine, tenant, job_id))


@router.post(
    "/jobs/{job_id}/retry",
    summary="Retry a failed or canceled job",
    status_code=202,
    response_model=Job,
    responses=problems(JobNotFound, JobNotRetryable, AudioGone),
)
def retry_job(job_id: JobId, resources: Provided, tenant: Tenant) -> Response:
    """Go on with a job that failed or was canceled; finished chunks are not transcribed again.

    Its `run` is raised. The end of every run is a webhook event of its own.
    """
    attempts = resources.settings.max_attempts
    retry.retry_job(resources.engine, tenant, job_id, max_attempts=attempts)
    resources.remover.ring()  # an equal job may have been transcribed meanwhile
    view = get_job(resources.engine, tenant, job_id)
    return answer_with_job(resources, tenant, view, status_code=202)


@router.delete(
    "/jobs/{job_id}",
    summary="Delete a job",
    status_code=204,
    responses=problems(JobNotFound),
)
def delete_job(job_id: JobId, resources: Provided, tenant: Tenant) -> None:
    """Remove a job, its transcript, its audio and its events; if it is running, stop it.

    Pending webhook deliveries are dropped. A job that waits for this one is transcribed in its
    place, and jobs that share its transcript keep it. The audio leaves the object store at once, or
    as soon as the store can be reached.
    """
    attempts = resources.settings.max_attempts
    delete.delete_job(resources.engine, tenant, job_id, max_attempts=attempts)
    resources.remover.ring()
