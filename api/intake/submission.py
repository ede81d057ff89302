"""Submitting jobs: a file is taken in, and the job committed."""

import logging
from functools import partial

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from uuid_utils.compat import uuid7

from api.intake.form import Form
from api.intake.upload import ALLOWANCE_S, Receiver
from api.native.answers import answer_with_job
from api.native.schemas.jobs import Job
from api.openapi import job_form, problems
from api.resources import Provided, Resources, Tenant
from shared.infra.errors import CommitUncertain, DatabaseUnavailable, JobNotFound, LonghandError
from shared.models.options import JobOptions, fingerprint
from shared.store.jobs.create import JobWebhook, NewJob, create_job
from shared.store.jobs.read import JobView, get_job
from shared.store.objects.keys import source_key
from shared.store.objects.removals import abandon_upload, begin_upload

log = logging.getLogger(__name__)

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
            503: "Postgres or the object store is away; see Retry-After",
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
    settings = resources.settings
    job_id = uuid7()
    with resources.upload_slots:
        # A database that is away is told before the upload, not after.
        served = await to_thread.run_sync(resources.find_served)
        key = source_key(job_id)
        receiver = Receiver(
            resources.storage,
            key,
            max_bytes=settings.max_upload_bytes,
            threads=resources.upload_threads,
            count_bytes=resources.upload_bytes.inc,
            begin=partial(begin_upload, resources.engine, key, allowance_s=ALLOWANCE_S),
            abandon=partial(_abandon, resources, key),
        )
        received = await receiver.receive(
            request,
            Form(resources.catalogue, settings.default_model, served, resources.outbound),
        )
    asked = received.asked
    model = resources.catalogue.get(received.options.model)
    digest = fingerprint(received.sha256, received.options, model)
    job = NewJob(
        id=job_id,
        tenant=tenant,
        options=received.options,
        fingerprint=digest if asked.cache else None,
        reference=asked.reference,
        metadata=asked.metadata,
        webhook=_webhook(asked),
        result_url=f"{settings.public_url}/jobs/{job_id}",
        source_key=key,
        source_name=received.name,
        source_bytes=received.n_bytes,
        sha256=received.sha256,
    )
    view = await to_thread.run_sync(_commit, resources, job)
    if view.cached:
        resources.cached_jobs.inc()
        resources.remover.ring()  # nobody will decode its file
    answer = partial(answer_with_job, resources, tenant, view, status_code=202)
    response = await to_thread.run_sync(answer)
    response.headers["Location"] = f"/jobs/{job_id}"
    return response


def _webhook(asked: JobOptions) -> JobWebhook | None:
    if asked.webhook_url is None or asked.webhook_secret is None:
        return None
    return JobWebhook(asked.webhook_url, asked.webhook_secret)


def _commit(resources: Resources, job: NewJob) -> JobView:
    """Commit the job, ring for it and read it back; its file goes if it was not committed."""
    engine = resources.engine
    try:
        create_job(engine, job, max_attempts=resources.settings.max_attempts)
    except CommitUncertain as error:
        try:
            get_job(engine, job.tenant, job.id)
        except JobNotFound:
            _abandon(resources, job.source_key)
            raise error from None
    except LonghandError:
        _abandon(resources, job.source_key)
        raise
    return get_job(engine, job.tenant, job.id)


def _abandon(resources: Resources, key: str) -> None:
    """Have the file removed, unless its job was committed after all."""
    try:
        abandon_upload(resources.engine, key)
    except DatabaseUnavailable as error:
        log.warning("%s: %s is removed when its time is up", error, key)
        return
    resources.remover.ring()
