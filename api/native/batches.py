"""Batches: many jobs by one request, and how far they are."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import Connection

from api.access.routes import needs
from api.idempotency import REPLAYED, check_same, fingerprint_of, holding, key_of
from api.intake.batch import MAX_BATCH_BYTES, Batch, BatchRequest, parse_batch, submit_batch
from api.native.ids import BatchId
from api.native.schemas.batches import (
    BatchItem,
    BatchStatus,
    ItemProblem,
    NewBatchAnswer,
    counts_of,
)
from api.native.ways_in import read_json_body
from api.openapi import BODY_ERRORS, batch_body, problems
from api.problems import failure_of
from api.resources import Provided, Resources, Tenant
from shared.infra import errors
from shared.infra.errors import RequestError
from shared.store.accounts.scopes import Scope
from shared.store.idempotency import Answered, Hold, answer_key
from shared.store.jobs.batches import get_batch
from shared.store.jobs.create import Created

router = APIRouter(tags=["jobs"])


@needs(Scope.JOBS_WRITE)
@router.post(
    "/jobs/batch",
    summary="Submit many files by their URLs or uploads",
    status_code=202,
    response_model=NewBatchAnswer,
    openapi_extra=batch_body(),
    responses=problems(
        *BODY_ERRORS,
        errors.ConflictingOptions,
        errors.UnsupportedLanguage,
        errors.UploadTooLarge,
        errors.ForbiddenUrl,
        errors.TooManyUploads,
        errors.TooManyAtOnce,
        errors.QueueFull,
        errors.IdempotencyKeyInUse,
        errors.IdempotencyKeyReused,
    ),
)
async def submit_jobs(request: Request, resources: Provided, tenant: Tenant) -> Response:
    """Take up to 1,000 files by `audio_url` or `upload_id`, each with an answer of its own.

    Those that are not refused are committed together, as a batch whose `batch_id` its jobs have.
    When all of them have ended, webhooks get one `batch.completed`.
    """
    batch = parse_batch(await read_json_body(request, resources, tenant, MAX_BATCH_BYTES))
    key = key_of(request)
    if key is None:
        return _answer(await submit_batch(resources.intake, tenant, batch, _nothing))
    async with holding(resources, tenant, key) as known:
        return await _answer_once(resources, tenant, batch, known)


@needs(Scope.JOBS_READ)
@router.get(
    "/batches/{batch_id}",
    summary="See how far a batch is",
    responses=problems(errors.BatchNotFound),
)
def show_batch(batch_id: BatchId, resources: Provided, tenant: Tenant) -> BatchStatus:
    """Count the jobs of a batch by their states."""
    view = get_batch(resources.engine, tenant, batch_id)
    return BatchStatus(
        id=view.id,
        jobs=view.jobs,
        counts=counts_of(dict(view.counts)),
        created_at=view.created_at,
        completed_at=view.completed_at,
    )


async def _answer_once(
    resources: Resources, tenant: str, batch: BatchRequest, known: Hold | Answered
) -> Response:
    asked = fingerprint_of(["/jobs/batch", batch.model_dump(mode="json")])
    if isinstance(known, Answered):
        check_same(known, asked)
        answer = _response(NewBatchAnswer.model_validate(known.answer))
        answer.headers[REPLAYED] = "true"
        return answer

    def answer_within(connection: Connection, made: Batch) -> None:
        answer_key(connection, known, asked, _told(made).model_dump(mode="json"))

    return _answer(await submit_batch(resources.intake, tenant, batch, answer_within))


def _nothing(_connection: Connection, _batch: Batch) -> None:
    """What is to be done within the transaction of a batch without a key."""


def _answer(batch: Batch) -> Response:
    return _response(_told(batch))


def _response(told: NewBatchAnswer) -> Response:
    answer = Response(told.model_dump_json(), 202, media_type="application/json")
    if told.batch_id is not None:
        answer.headers["Location"] = f"/batches/{told.batch_id}"
    return answer


def _told(batch: Batch) -> NewBatchAnswer:
    items = [_item(index, result) for index, result in enumerate(batch.results)]
    refused = sum(item.problem is not None for item in items)
    return NewBatchAnswer(
        batch_id=batch.id, accepted=len(items) - refused, refused=refused, results=items
    )


def _item(index: int, result: Created | RequestError) -> BatchItem:
    if isinstance(result, Created):
        job_id = result.job_id
        return BatchItem(index=index, job_id=job_id, location=f"/jobs/{job_id}", problem=None)
    failure = failure_of(result)
    members: dict[str, Any] = dict(failure.members)
    problem = ItemProblem(
        title=HTTPStatus(failure.status).phrase,
        status=failure.status,
        code=failure.code,
        detail=failure.detail,
        **members,
    )
    return BatchItem(index=index, job_id=None, location=None, problem=problem)
