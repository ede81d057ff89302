"""References: what was really said, and the models' error rates against it."""

from functools import partial
from typing import Annotated
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from pydantic import ValidationError

from api.access.routes import needs
from api.intake.bodies import read_body
from api.native.answers import accepted, answer_with_job
from api.native.disconnection import while_connected
from api.native.ids import JobId
from api.native.schemas import members
from api.native.schemas.accuracy import (
    AccuracyHistory,
    AccuracyStats,
    CacheStats,
    CacheUse,
    DayAccuracy,
    NewReference,
    PooledAccuracy,
)
from api.native.schemas.jobs import Job
from api.openapi import BODY_ERRORS, located, problems, reference_body
from api.resources import Provided, Resources, Tenant
from api.validation import refusal
from shared.infra.errors import (
    EmptyReference,
    InvalidRequest,
    JobNotFound,
    TranscriptDeleted,
    TranscriptNotReady,
)
from shared.speech.text.accuracy import (
    MAX_REFERENCE_CHARS,
    Accuracy,
    check_reference,
    measure_within,
)
from shared.store.accounts.scopes import Scope
from shared.store.jobs.accuracy import (
    StoredText,
    accuracy_by_day,
    accuracy_by_model,
    cache_use,
    get_text,
    set_reference,
)
from shared.store.jobs.read import get_job

router = APIRouter(tags=["accuracy"])

_MAX_BODY_BYTES = 6 * MAX_REFERENCE_CHARS + 1024
"""JSON may spend six bytes on a character, as in ``\\u00e9``."""

MOST_DAYS = 366
"""Of error rates over time."""

_MAX_CELLS = 4e10
"""Bound of ``measure_within`` for one request: about a second of a core for any texts.
It measures all texts of up to four hours of speech, and ten hours where one character in ten is
wrong."""


@needs(Scope.JOBS_WRITE)
@router.post(
    "/jobs/{job_id}/reference",
    summary="Measure a transcript against a reference",
    response_model=Accuracy,
    openapi_extra=reference_body(),
    responses={
        202: {
            "model": Job,
            **located(
                "The texts are too long and too different to be compared at once; the job's "
                "metrics have the accuracy as soon as a worker has compared them"
            ),
        },
        **problems(
            JobNotFound, TranscriptNotReady, TranscriptDeleted, EmptyReference, *BODY_ERRORS
        ),
    },
)
async def add_reference(
    job_id: JobId, request: Request, resources: Provided, tenant: Tenant
) -> object:
    """Give what was really said, and get the error rates of the job's transcript.

    It replaces an earlier reference of the job. If hours of speech differ in most words, a worker
    compares them: the answer is 202, and the job's `metrics` have the rates soon after.
    """
    # Before the body is read: there may be nothing to compare it with.
    heard = await to_thread.run_sync(get_text, resources.engine, tenant, job_id)
    reference = await _read_reference(request)
    accuracy = await compare(request, resources, tenant, job_id, reference, heard)
    if accuracy is not None:
        return accuracy
    view = await to_thread.run_sync(get_job, resources.engine, tenant, job_id)
    answer = await to_thread.run_sync(answer_with_job, resources, tenant, view)
    return accepted(answer, job_id)


async def compare(
    request: Request,
    resources: Resources,
    tenant: str,
    job_id: UUID,
    reference: str,
    heard: StoredText,
) -> Accuracy | None:
    """Give a job that succeeded its reference, and return the error rates of its text.

    None where that takes more than about a second: then a worker measures the job. The request's
    body must have been read.

    Raises:
        JobNotFound: there is no such job for this tenant, or its transcript is gone.
        ClientDisconnect: the client has left.
    """
    measure = partial(measure_within, reference, heard.text, heard.language, max_cells=_MAX_CELLS)
    accuracy = await while_connected(
        request, to_thread.run_sync(measure, limiter=resources.measuring_threads)
    )
    await to_thread.run_sync(set_reference, resources.engine, tenant, job_id, reference, accuracy)
    return accuracy


@needs(Scope.JOBS_READ)
@router.get("/accuracy/stats", summary="Compare the models' accuracy", responses=problems())
def show_accuracy(resources: Provided, tenant: Tenant) -> AccuracyStats:
    """Pool the error rates of all jobs with a reference, and count what the cache saved."""
    pools = accuracy_by_model(resources.engine, tenant)
    use = cache_use(resources.engine, tenant)
    n_jobs = use.computed + use.cached
    hit_rate = round(use.cached / n_jobs, 4) if n_jobs else None
    return AccuracyStats(
        models=[PooledAccuracy(**dict(pool.accuracy), **members(pool)) for pool in pools],
        cache=CacheStats(**members(use), hit_rate=hit_rate),
        cache_stats=CacheUse(hits=use.cached, misses=use.computed, hit_rate=hit_rate),
    )


@needs(Scope.JOBS_READ)
@router.get(
    "/accuracy/days", summary="Compare the models' accuracy over time", responses=problems()
)
def show_accuracy_by_day(
    resources: Provided,
    tenant: Tenant,
    days: Annotated[
        int, Query(ge=1, le=MOST_DAYS, description="how many, today's included (UTC)")
    ] = 30,
) -> AccuracyHistory:
    """Pool the error rates of all jobs with a reference, by model and the day of their end."""
    pools = accuracy_by_day(resources.engine, tenant, days=days)
    return AccuracyHistory(
        days=[DayAccuracy(**dict(pool.accuracy), **members(pool)) for pool in pools]
    )


async def _read_reference(request: Request) -> str:
    """Return the reference in a body of JSON or plain text.

    Raises:
        UnsupportedMediaType: the body is neither.
        EmptyReference: nothing can be measured against it.
        InvalidRequest: it is malformed or too long.
        UploadStalled: it does not come to its end.
    """
    media_type, body = await read_body(request, ("application/json", "text/plain"), _MAX_BODY_BYTES)
    try:
        if media_type == "text/plain":
            reference = body.decode()
        else:
            reference = NewReference.model_validate_json(body, strict=True).reference
    except UnicodeDecodeError as error:
        raise InvalidRequest("the reference is not UTF-8 text") from error
    except ValidationError as error:
        raise refusal(error, NewReference.model_fields, "the body is wrong: ") from error
    check_reference(reference)
    return reference
