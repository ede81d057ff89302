"""The native API's errors: problem details (RFC 9457) with a stable ``code``.

Only this module knows which error has which HTTP status. ``type`` is always ``about:blank``, so
``title`` is the status' phrase; programs read ``code``, people read ``detail``. A dialect, which
has bodies of its own (``api.faces``), may start from ``failure_of``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from api.faces import install_faces
from api.validation import describe, summarize
from shared.infra import errors
from shared.infra.errors import InvalidRequest, LonghandError, RequestError

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER_S = 5
"""What a client is told to wait: about as long as the sweeper waits between its rounds."""

STATUSES: Mapping[type[LonghandError], int] = {
    errors.InvalidRequest: 422,
    errors.UnknownModel: 422,
    errors.ModelNotServed: 409,
    errors.UnsupportedLanguage: 422,
    errors.UnsupportedOption: 422,
    errors.UnknownFormat: 422,
    errors.EmptyFile: 422,
    errors.UploadTooLarge: 413,
    errors.UploadStalled: 408,
    errors.UnsupportedMediaType: 415,
    errors.JobNotFound: 404,
    errors.JobEnded: 409,
    errors.JobNotRetryable: 409,
    errors.AudioGone: 409,
    errors.TranscriptNotReady: 409,
    errors.TranscriptDeleted: 410,
    errors.ForbiddenUrl: 422,
    errors.WebhookNotFound: 404,
    errors.TooManyWebhooks: 409,
    errors.DeliveryNotFound: 404,
    errors.DeliveryNotReplayable: 409,
    errors.TransientError: 503,
}
"""The status of each class and of all below it that are not listed themselves. What is not here, no
request should raise: it is answered as an error of ours, 500."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What is told of an error, before a face gives it a form."""

    status: int
    code: str
    """Stable, for programs."""
    detail: str
    """One sentence for a person."""
    headers: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, Any] = field(default_factory=dict)
    """What programs are told beside the code; JSON values."""


class Problem(BaseModel):
    """Problem details as in RFC 9457."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Not Found",
                    "status": 404,
                    "code": "job_not_found",
                    "detail": "there is no job 0190a6b2-5c7e-7d3a-9f10-3b1d6a4c8e21",
                    "instance": "/jobs/0190a6b2-5c7e-7d3a-9f10-3b1d6a4c8e21",
                    "request_id": "6cc9eda867514dd0a6274728d2a957de",
                }
            ]
        },
    )

    type: str = "about:blank"
    title: str = Field(description="the phrase of the HTTP status")
    status: int
    code: str = Field(description="stable and machine-readable, such as 'unknown_model'")
    detail: str = Field(description="one sentence for a person")
    instance: str = Field(description="the path of the request")
    request_id: str = Field(description="as in the X-Request-Id header and in the log")


def failure_of(error: Exception) -> Failure:
    """Return what is told of an error, whoever raised it; nothing about the inside."""
    match error:
        case LonghandError() if (known := _status_of(error)) is not None:
            headers = {"Retry-After": str(RETRY_AFTER_S)} if known == 503 else {}
            members = error.members if isinstance(error, RequestError) else {}
            return Failure(known, error.code, str(error), headers, members)
        case RequestValidationError():
            wrong = describe(error)
            return Failure(
                STATUSES[InvalidRequest],
                InvalidRequest.code,
                summarize(wrong),
                members={"errors": wrong},
            )
        case HTTPException():
            status = HTTPStatus(error.status_code)
            return Failure(status, status.name.lower(), error.detail, error.headers or {})
        case ClientDisconnect():
            # Nobody reads this answer; it is for the log and the metrics.
            return Failure(400, "client_disconnected", "the client went away")
    return Failure(500, "internal_error", "an error on our side; the log has it by its request_id")


def _status_of(error: LonghandError) -> int | None:
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), None)


def error_response(request: Request, error: Exception, **members: Any) -> Response:
    """Return the answer to an error; ``members`` are further extension members."""
    failure = failure_of(error)
    if failure.status == HTTPStatus.NO_CONTENT:
        return Response(status_code=failure.status)
    request_id = getattr(request.state, "request_id", "")
    problem = Problem(
        title=HTTPStatus(failure.status).phrase,
        status=failure.status,
        code=failure.code,
        detail=failure.detail,
        instance=request.url.path,
        request_id=request_id,
        **{**failure.members, **members},
    )
    return JSONResponse(problem.model_dump(), failure.status, failure.headers, MEDIA_TYPE)


def install_problem_handlers(app: FastAPI) -> None:
    """Have all errors of ``app`` answered as problems, but for paths that have another face."""
    install_faces(app, error_response)
