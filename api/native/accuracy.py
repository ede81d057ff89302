"""References: what was really said, and how near the models come to it."""

from functools import partial

from anyio import to_thread
from fastapi import APIRouter, Request
from pydantic import ValidationError

from api.intake.bodies import read_body
from api.native.answers import answer_with_job
from api.native.disconnection import while_connected
from api.native.ids import existing_id
from api.native.schemas.accuracy import AccuracyStats, CacheStats, NewReference, PooledAccuracy
from api.native.schemas.jobs import Job
from api.openapi import problems, reference_body
from api.problems import error_response
from api.resources import Provided, Tenant
from api.validation import describe, summarize
from shared.infra.errors import InvalidRequest, TranscriptNotReady
from shared.speech.accuracy import MAX_REFERENCE_CHARS, Accuracy, check_reference, measure_within
from shared.store.jobs.accuracy import accuracy_by_model, cache_use, get_text, set_reference
from shared.store.jobs.read import get_job

router = APIRouter(tags=["accuracy"])

_MAX_BODY_BYTES = 6 * MAX_REFERENCE_CHARS + 1024
"""JSON may spend six bytes on a character, as in ``\\u00e9``."""

_MAX_CELLS = 4e10
"""Bound of ``measure_within`` for one request: about a second of a core, whatever the texts are.
It measures all texts of up to four hours of speech, and ten hours where one character in ten is
wrong."""


@router.post(
    "/jobs/{job_id}/reference",
    summary="Measure a transcript against a reference",
    response_model=Accuracy,
    openapi_extra=reference_body(),
    responses={
        202: {
            "model": Job,
            "description": "The texts are too long and too different to be compared at once; the "
            "job's metrics have the accuracy as soon as a worker has compared them",
            "headers": {"Location": {"schema": {"type": "string"}, "description": "the job"}},
        },
        **problems(
            {
                404: "No such job",
                408: "The sender fell silent",
                409: "The job has not succeeded; the member 'state' tells its state",
                415: "The body is neither application/json nor text/plain",
                422: "The reference is empty or too long",
                503: "Postgres is away; see Retry-After",
            }
        ),
    },
)
async def add_reference(
    job_id: str, request: Request, resources: Provided, tenant: Tenant
) -> object:
    """Say what was really said, and learn the error rates of the job's transcript.

    A reference that the job had before is replaced. Hours of speech in which most words differ
    are compared by a worker: the answer is 202 then, and the rates are in the job's `metrics` soon
    after it.
    """
    found_id = existing_id(job_id)
    engine = resources.engine
    try:
        heard = await to_thread.run_sync(get_text, engine, tenant, found_id)
    except TranscriptNotReady as error:
        view = await to_thread.run_sync(get_job, engine, tenant, found_id)
        return error_response(request, error, state=view.state)
    reference = await _read_reference(request)
    measure = partial(measure_within, reference, heard.text, heard.language, max_cells=_MAX_CELLS)
    accuracy = await while_connected(
        request, to_thread.run_sync(measure, limiter=resources.measuring_threads)
    )
    await to_thread.run_sync(set_reference, engine, tenant, found_id, reference, accuracy)
    if accuracy is not None:
        return accuracy
    view = await to_thread.run_sync(get_job, engine, tenant, found_id)
    answer = await to_thread.run_sync(
        partial(answer_with_job, resources, tenant, view, status_code=202)
    )
    answer.headers["Location"] = f"/jobs/{found_id}"
    return answer


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
