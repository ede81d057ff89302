"""What owners do with their jobs: submit, cancel, retry, delete."""

from fastapi import APIRouter, Request, Response

from api.access.routes import needs
from api.idempotency import REPLAYED, submit_once
from api.native import snapshots
from api.native.answers import accepted, answer_with_job, answer_with_snapshot
from api.native.ids import JobId
from api.native.schemas.jobs import Job
from api.native.ways_in import source_of
from api.openapi import BODY_ERRORS, job_body, located, problems
from api.resources import Provided, Tenant
from shared.infra import errors
from shared.store.accounts.scopes import Scope
from shared.store.jobs import cancel, delete, retry
from shared.store.jobs.read import get_job

router = APIRouter(tags=["jobs"])

SUBMISSION_PROBLEMS = (
    *BODY_ERRORS,
    errors.ModelNotServed,
    errors.SpeakersUnavailable,
    errors.UploadTooLarge,
    errors.UnknownModel,
    errors.UnsupportedLanguage,
    errors.UnsupportedOption,
    errors.EmptyFile,
    errors.EmptyReference,
    errors.ConflictingOptions,
    errors.MisnamedField,
    errors.ForbiddenUrl,
    errors.TooManyUploads,
    errors.UploadNotFound,
    errors.UploadIncomplete,
    errors.DigestMismatch,
    errors.QueueFull,
    errors.StorageUnavailable,
    errors.TooManyJobs,
    errors.TooMuchAudio,
    errors.TooManyAtOnce,
    errors.IdempotencyKeyInUse,
    errors.IdempotencyKeyReused,
)
"""What any endpoint raises that takes a file in."""


@needs(Scope.JOBS_WRITE)
@router.post(
    "/jobs",
    summary="Submit a file",
    status_code=202,
    response_model=Job,
    openapi_extra=job_body(),
    responses=problems(*SUBMISSION_PROBLEMS, errors.JobNotFound)
    | {202: located("The job is committed and its file stored")},
)
async def submit_job(
    request: Request, resources: Provided, loader: snapshots.Provided, tenant: Tenant
) -> Response:
    """Take a file and queue its transcription, unless the same was transcribed before.

    The file is a form's part, or the whole body with its options in the query, or JSON names it: by
    an `audio_url`, from which a worker fetches it, by an `upload_id`, or as `audio_base64`.

    If the same model has transcribed the same bytes with the same options, the job has succeeded at
    once: its `cached` is true, and the answer has its transcript. The `cache` field turns that off.

    With an `Idempotency-Key`, a request that is sent again within 24 hours makes no other job: the
    answer has the first one's.
    """
    async with source_of(request, resources, tenant) as source:
        submitted = await submit_once(request, resources, tenant, source)
    job_id = submitted.created.job_id
    snapshot = await loader.get(snapshots.JobKey(tenant, job_id))
    answer = accepted(await answer_with_snapshot(resources, snapshot), job_id)
    if submitted.is_replayed:
        answer.headers[REPLAYED] = "true"
    return answer


@needs(Scope.JOBS_WRITE)
@router.post(
    "/jobs/{job_id}/cancel",
    summary="Cancel a job",
    response_model=Job,
    responses=problems(errors.JobNotFound, errors.JobEnded),
)
def cancel_job(job_id: JobId, resources: Provided, tenant: Tenant) -> Response:
    """Stop a job: at once if it is queued, within a chunk if it is running.

    It can be retried (`/retry`) while its audio is kept.
    """
    attempts = resources.settings.max_attempts
    cancel.cancel_job(resources.engine, tenant, job_id, max_attempts=attempts)
    return answer_with_job(resources, tenant, get_job(resources.engine, tenant, job_id))


@needs(Scope.JOBS_WRITE)
@router.post(
    "/jobs/{job_id}/retry",
    summary="Retry a failed or canceled job",
    status_code=202,
    response_model=Job,
    responses=problems(
        errors.JobNotFound,
        errors.JobNotRetryable,
        errors.AudioGone,
        errors.TooManyJobs,
        errors.TooMuchAudio,
    ),
)
def retry_job(job_id: JobId, resources: Provided, tenant: Tenant) -> Response:
    """Go on with a job that failed or was canceled; finished chunks are not transcribed again.

    Its `run` is raised. The end of every run is a webhook event of its own.
    """
    attempts = resources.settings.max_attempts
    limits = resources.limits.known(tenant)
    retry.retry_job(resources.engine, tenant, job_id, max_attempts=attempts, limits=limits)
    resources.remover.ring()  # an equal job may have been transcribed meanwhile
    view = get_job(resources.engine, tenant, job_id)
    return accepted(answer_with_job(resources, tenant, view), job_id)


@needs(Scope.JOBS_WRITE)
@router.delete(
    "/jobs/{job_id}",
    summary="Delete a job",
    status_code=204,
    responses=problems(errors.JobNotFound),
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
