"""The native API's errors: problem details (RFC 9457) with a stable ``code``.

Only this module knows which error has which HTTP status. ``type`` is always ``about:blank``, so
``title`` is the status' phrase; programs read ``code``, people read ``detail``. A dialect, which
has bodies of its own (``api.faces``), may start from ``failure_of``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import JSONResponse, Response

from api.validation import describe, summarize
from shared.infra import errors
from shared.infra.errors import (
    IdempotencyKeyInUse,
    InvalidRequest,
    LimitReached,
    LonghandError,
    QueueFull,
    RangeNotSatisfiable,
    RequestError,
)

MEDIA_TYPE = "application/problem+json"

INTERNAL_ERROR = "internal_error"
"""The code of an error that no request should raise."""

RETRY_AFTER_S = 5
"""How long clients should wait: about as long as the sweep waits between its rounds."""

CHALLENGE = 'Bearer realm="longhand"'
"""What an answer to a client without a valid credential asks for."""

STATUSES: Mapping[type[LonghandError], int] = {
    errors.InvalidRequest: 422,
    errors.UnknownModel: 422,
    errors.ModelNotServed: 409,
    errors.SpeakersUnavailable: 409,
    errors.UnsupportedLanguage: 422,
    errors.UnsupportedOption: 422,
    errors.UnknownFormat: 422,
    errors.NotAcceptable: 406,
    errors.EmptyFile: 422,
    errors.UploadTooLarge: 413,
    errors.UploadStalled: 408,
    errors.UnsupportedMediaType: 415,
    errors.UploadNotFound: 404,
    errors.UploadIncomplete: 409,
    errors.DigestMismatch: 422,
    errors.TusVersion: 412,
    errors.OffsetMismatch: 409,
    errors.ChecksumUnknown: 400,
    errors.ChecksumMismatch: 460,
    errors.JobNotFound: 404,
    errors.SpeakerNotFound: 404,
    errors.BatchNotFound: 404,
    errors.IdempotencyKeyInUse: 409,
    errors.IdempotencyKeyReused: 422,
    errors.JobEnded: 409,
    errors.JobNotRetryable: 409,
    errors.AudioGone: 409,
    errors.JobFailed: 500,
    errors.AudioRefused: 422,
    errors.JobCanceled: 409,
    errors.TranscriptNotReady: 409,
    errors.TranscriptDeleted: 410,
    errors.SegmentNotFound: 404,
    errors.CorrectionConflict: 409,
    errors.NothingToUndo: 409,
    errors.ShareLinkNotFound: 404,
    errors.TooManyShareLinks: 409,
    errors.PeaksNotReady: 409,
    errors.AudioNotFetched: 409,
    errors.AudioDeleted: 410,
    errors.RangeNotSatisfiable: 416,
    errors.LimitReached: 429,
    errors.ForbiddenUrl: 422,
    errors.UnknownHost: 421,
    errors.ForbiddenOrigin: 403,
    errors.WebhookNotFound: 404,
    errors.TooManyWebhooks: 409,
    errors.DeliveryNotFound: 404,
    errors.DeliveryNotReplayable: 409,
    errors.TooManyTests: 429,
    errors.Unauthenticated: 401,
    errors.CsrfTokenWrong: 403,
    errors.ScopeMissing: 403,
    errors.TenantNotFound: 404,
    errors.TenantExists: 409,
    errors.KeyNotFound: 404,
    errors.WorkerNotFound: 404,
    errors.WorkerNotDrainable: 409,
    errors.TransientError: 503,
}
"""The status of each class, and of its subclasses that are not listed. No request should raise any
other: it is answered with 500."""


_PHRASES = {460: "Checksum Mismatch"}
"""Of statuses that HTTP itself does not have: 460 is from tus."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What clients learn of an error, in whatever form a face gives it."""

    status: int
    code: str
    """Stable, for programs."""
    detail: str
    """One sentence for a person."""
    headers: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, Any] = field(default_factory=dict)
    """Further details for programs; JSON values."""


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
    """Return what clients learn of any error; nothing internal."""
    match error:
        case LonghandError() if (known := status_of(type(error))) is not None:
            headers: dict[str, str] = {}
            after_s: float | None = RETRY_AFTER_S if known in (429, 503) else None
            if isinstance(error, LimitReached | QueueFull | IdempotencyKeyInUse):
                after_s = error.retry_after_s
            if after_s is not None:
                headers = {"Retry-After": str(math.ceil(after_s))}
            if known == HTTPStatus.UNAUTHORIZED:
                headers = {"WWW-Authenticate": CHALLENGE}
            if isinstance(error, RangeNotSatisfiable):
                headers = {"Content-Range": f"bytes */{error.n_bytes}"}
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
            # This answer is for the log and the metrics.
            return Failure(400, "client_disconnected", "the client went away")
    return Failure(500, INTERNAL_ERROR, "an error on our side; the log has it by its request_id")


def status_of(kind: type[LonghandError]) -> int | None:
    """Return the status of a class of errors, None if no request should raise it."""
    return next((STATUSES[base] for base in kind.__mro__ if base in STATUSES), None)


def error_response(request: HTTPConnection, error: Exception) -> Response:
    """Return the answer to an error."""
    failure = failure_of(error)
    if failure.status == HTTPStatus.NO_CONTENT:
        return Response(status_code=failure.status)
    request_id = getattr(request.state, "request_id", "")
    problem = Problem(
        title=_PHRASES.get(failure.status) or HTTPStatus(failure.status).phrase,
        status=failure.status,
        code=failure.code,
        detail=failure.detail,
        instance=request.url.path,
        request_id=request_id,
        **failure.members,
    )
    return JSONResponse(problem.model_dump(), failure.status, failure.headers, MEDIA_TYPE)
