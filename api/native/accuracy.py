"""References: what was really said, and how near the models come to it."""

from anyio import to_thread
from fastapi import APIRouter, Request
from pydantic import ValidationError

from api.intake.bodies import read_body
from api.native.ids import existing_id
from api.native.schemas.accuracy import AccuracyStats, CacheStats, NewReference, PooledAccuracy
from api.openapi import problems, reference_body
from api.problems import error_response
from api.resources import Provided, Tenant
from api.validation import describe, summarize
from shared.infra.errors import InvalidRequest, TranscriptNotReady
from shared.speech.accuracy import MAX_REFERENCE_CHARS, Accuracy, check_reference, measure
from shared.store.jobs.accuracy import set_reference
from shared.store.jobs.read import get_job
from shared.store.jobs.references import accuracy_by_model, cache_use, get_spoken

router = APIRouter(tags=["accuracy"])

_MAX_BODY_BYTES = 6 * MAX_REFERENCE_CHARS + 1024
"""JSON may spend six bytes on a character, as in ``\\u00e9``."""


@router.post(
    "/jobs/{job_id}/reference",
    summary="Measure a transcript against a reference",
    response_model=Accuracy,
    openapi_extra=reference_body(),
    responses=problems(
        {
            404: "No such job",
            408: "The sender fell silent",
            409: "The job has not succeeded; the member 'state' tells its state",
            415: "The body is neither application/json nor text/plain",
            422: "The reference is empty or too long",
            503: "Postgres is away; see Retry-After",
        }
    ),
)
async def add_reference(
    job_id: str, request: Request, resources: Provided, tenant: Tenant
) -> object:
    """Say what was really said, and learn the error rates of the job's transcript.

    A reference that the job had before is replaced.
    """
    found_id = existing_id(job_id)
    engine = resources.engine
    try:
        spoken = await to_thread.run_sync(get_spoken, engine, tenant, found_id)
    except TranscriptNotReady as error:
        view = await to_thread.run_sync(get_job, engine, tenant, found_id)
        return error_response(request, error, state=view.state)
    reference = await _read_reference(request)
    accuracy = await to_thread.run_sync(
        measure, reference, spoken.text, spoken.language, limiter=resources.measuring_threads
    )
    await to_thread.run_sync(set_reference, engine, tenant, found_id, reference, accuracy)
    return accuracy


@router.get(
    "/accuracy/stats",
    summary="Compare the models' accuracy",
    responses=problems({503: "Postgres is away; see Retry-After"}),
)
def show_accuracy(resources: Provided, tenant: Tenant) -> AccuracyStats:
    """Pool the error rates of all jobs with a reference, and count what the cache has saved."""
    pools = accuracy_by_model(resources.engine, tenant)
    use = cache_use(resources.engine, tenant)
    n_jobs = use.computed + use.cached
    return AccuracyStats(
        models=[
            PooledAccuracy(
                **dict(pool.accuracy),
                model=pool.model,
                language=pool.language,
                task=pool.task,
                jobs=pool.jobs,
                audio_s=pool.audio_s,
            )
            for pool in pools
        ],
        cache=CacheStats(
            computed=use.computed,
            cached=use.cached,
            hit_rate=round(use.cached / n_jobs, 4) if n_jobs else None,
            audio_saved_s=use.audio_saved_s,
        ),
    )


async def _read_reference(request: Request) -> str:
    """Return the reference in a body of JSON or plain text.

    Raises:
        UnsupportedMediaType: the body is neither.
        InvalidRequest: it is malformed or too long, or nothing can be measured against it.
        UploadStalled: it does not come to its end.
    """
    media_type, body = await read_body(request, ("application/json", "text/plain"), _MAX_BODY_BYTES)
    try:
        if media_type == "text/plain":
            reference = body.decode()
        else:
            reference = NewReference.model_validate_json(body).reference
    except UnicodeDecodeError as error:
        raise InvalidRequest("the reference is not UTF-8 text") from error
    except ValidationError as error:
        wrong = summarize(describe(error, NewReference.model_fields))
        raise InvalidRequest(f"the body is wrong: {wrong}") from error
    check_reference(reference)
    return reference
