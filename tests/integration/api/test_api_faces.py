"""Who answers errors: the table of statuses, and a dialect beside the native API."""

from collections.abc import Iterator
from functools import partial

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from api.access.routes import authorize, needs, public
from api.app import create_app, end_waits
from api.faces import add_face
from api.problems import RETRY_AFTER_S, STATUSES, failure_of
from api.resources import Provided, Tenant
from harness.servers.api_server import assert_problem, serving
from shared.infra import errors
from shared.infra.errors import JobNotFound, LonghandError, RequestError, TransientError
from shared.infra.settings import Settings
from shared.store.accounts.scopes import Scope

PUBLISHED = {
    "invalid_request": 422,
    "conflicting_options": 422,
    "misnamed_field": 422,
    "idempotency_key_in_use": 409,
    "idempotency_key_reused": 422,
    "batch_not_found": 404,
    "empty_reference": 422,
    "unknown_model": 422,
    "model_not_served": 409,
    "unsupported_language": 422,
    "unsupported_option": 422,
    "unknown_format": 422,
    "empty_file": 422,
    "upload_too_large": 413,
    "upload_stalled": 408,
    "unsupported_media_type": 415,
    "job_not_found": 404,
    "job_ended": 409,
    "job_not_retryable": 409,
    "audio_gone": 409,
    "job_failed": 500,
    "audio_refused": 422,
    "job_canceled": 409,
    "transcript_not_ready": 409,
    "transcript_deleted": 410,
    "forbidden_url": 422,
    "voice_not_found": 404,
    "voiceprints_not_kept": 409,
    "voice_too_short": 409,
    "too_many_voices": 409,
    "webhook_not_found": 404,
    "too_many_webhooks": 409,
    "delivery_not_found": 404,
    "delivery_not_replayable": 409,
    "upload_not_found": 404,
    "upload_incomplete": 409,
    "digest_mismatch": 422,
    "too_many_open_uploads": 429,
    "not_acceptable": 406,
    "audio_not_fetched": 409,
    "audio_deleted": 410,
    "range_not_satisfiable": 416,
    "tus_version": 412,
    "offset_mismatch": 409,
    "checksum_unknown": 400,
    "checksum_mismatch": 460,
}
"""What clients rely on: a code and its status never change."""


def kinds(base: type[LonghandError]) -> Iterator[type[LonghandError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


def made(kind: type[LonghandError]) -> LonghandError:
    if kind is errors.ModelNotServed:
        return errors.ModelNotServed("why", ["tiny"])
    if issubclass(kind, errors.JobFailed):
        return kind("why", "the job", {"code": "model_error", "detail": "why"})
    if kind is errors.ScopeMissing:
        return errors.ScopeMissing("why", Scope.LIVE)
    if kind is errors.TranscriptNotReady:
        return errors.TranscriptNotReady("why", "running")
    if kind is errors.CorrectionConflict:
        return errors.CorrectionConflict("why", theirs="a", yours="b", current={})
    if kind is errors.AudioNotFetched:
        return errors.AudioNotFetched("why", "queued")
    if kind is errors.RangeNotSatisfiable:
        return errors.RangeNotSatisfiable("why", 5)
    if kind is errors.UploadIncomplete:
        return errors.UploadIncomplete("why", "open", 0)
    if issubclass(kind, errors.LimitReached | errors.QueueFull | errors.IdempotencyKeyInUse):
        return kind("why", 5.0)
    if kind is errors.NotAcceptable:
        return errors.NotAcceptable("why", ["text/plain"])
    if kind is errors.MisnamedField:
        return errors.MisnamedField("why", {"lang": "language"})
    return kind("why")


def test_every_error_of_a_request_has_a_status_in_the_table() -> None:
    missing = [kind for kind in kinds(RequestError) if not STATUSES.keys() & {*kind.__mro__}]
    assert missing == []


def test_published_codes_keep_their_statuses() -> None:
    told = {kind.code: failure_of(made(kind)).status for kind in kinds(RequestError)}
    assert told.items() >= PUBLISHED.items()


@pytest.mark.parametrize("kind", [*kinds(TransientError)])
def test_what_may_pass_is_answered_with_a_time_to_retry(kind: type[LonghandError]) -> None:
    failure = failure_of(made(kind))
    status = 429 if kind is errors.TooManyTests else 503
    assert (failure.status, failure.code) == (status, kind.code)
    assert failure.headers == {"Retry-After": str(RETRY_AFTER_S)}


def test_a_new_error_has_the_status_of_the_class_above_it() -> None:
    class JobHidden(JobNotFound):
        code = "job_hidden"

    assert failure_of(JobHidden("why")).status == 404


def test_what_no_request_should_raise_is_an_error_of_ours_and_tells_nothing() -> None:
    failure = failure_of(errors.UnreadableMedia("/secret/path"))
    assert (failure.status, failure.code) == (500, "internal_error")
    assert "secret" not in failure.detail


class Question(BaseModel):
    """A body that the dialect validates."""

    times: int


def dialect() -> APIRouter:
    router = APIRouter(prefix="/v9", dependencies=[Depends(authorize)])

    @needs(Scope.JOBS_READ)
    @router.get("/jobs/{job_id}")
    async def show(job_id: str, resources: Provided, tenant: Tenant) -> None:
        raise JobNotFound(f"there is no job {job_id}, {tenant}, {resources.settings.log_level}")

    @public
    @router.post("/questions")
    async def ask(question: Question) -> int:
        return question.times

    @public
    @router.get("/bug")
    async def fail() -> None:
        raise ZeroDivisionError

    return router


def answer(request: Request, error: Exception) -> Response:
    failure = failure_of(error)
    status = 400 if failure.status == 422 else failure.status
    return JSONResponse({"error": {"message": failure.detail, "type": failure.code}}, status)


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    app: FastAPI = create_app(servers)
    app.include_router(dialect())
    add_face(app, "/v9", answer)
    with (
        serving(app, on_stop=partial(end_waits, app)) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


def dialect_error(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert body.keys() == {"error"}
    return str(body["error"]["type"])


@pytest.mark.usefixtures("database")
def test_one_error_of_the_domain_has_each_face_s_own_body(client: httpx.Client) -> None:
    path = "/jobs/0190a6b2-5c7e-7d3a-9f10-3b1d6a4c8e21"
    assert_problem(client.get(path), 404, "job_not_found")
    assert dialect_error(client.get(f"/v9{path}"), 404) == "job_not_found"


def test_an_invalid_request_is_told_in_the_dialect_s_form(client: httpx.Client) -> None:
    assert_problem(client.get("/jobs?limit=0"), 422, "invalid_request")
    assert dialect_error(client.post("/v9/questions", json={"times": "x"}), 400) == (
        "invalid_request"
    )


@pytest.mark.parametrize("path", ["/v9", "/v9/", "/v9/nothing"])
def test_paths_and_methods_that_do_not_exist_below_the_prefix_are_the_dialect_s(
    client: httpx.Client, path: str
) -> None:
    assert dialect_error(client.get(path), 404) == "not_found"
    assert dialect_error(client.delete("/v9/questions"), 405) == "method_not_allowed"


def test_a_path_that_only_begins_like_the_prefix_is_not_the_dialect_s(client: httpx.Client) -> None:
    assert_problem(client.get("/v90"), 404, "not_found")


def test_a_bug_is_told_in_the_dialect_s_form_and_by_its_request_id(client: httpx.Client) -> None:
    answer = client.get("/v9/bug", headers={"X-Request-Id": "mine"})
    assert dialect_error(answer, 500) == "internal_error"
    assert answer.headers["x-request-id"] == "mine"
