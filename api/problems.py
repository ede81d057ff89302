"""Errors as clients see them: problem details (RFC 9457) with a stable ``code``.

The one place that knows which exception becomes which answer. ``type`` is always ``about:blank``,
so ``title`` is the status' phrase; programs read ``code``, people read ``detail``.
"""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from api.spelling import nearest
from shared.infra.errors import InvalidRequest, LonghandError, RequestError, TransientError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER_S = 5
"""What a client is told to wait: about the time after which the sweeper looks again, too."""


_LARGE_NUMBER = re.compile(r"\b\d{4,}\b")


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


def problem_response(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> JSONResponse:
    """Return an answer in problem form; ``members`` are extension members."""
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        instance=request.url.path,
        request_id=getattr(request.state, "request_id", ""),
        **members,
    )
    return JSONResponse(problem.model_dump(), status, headers, MEDIA_TYPE)


def error_response(request: Request, error: LonghandError, **members: Any) -> JSONResponse:
    """Return the answer to an error raised on purpose."""
    if isinstance(error, RequestError):
        members = {**error.members, **members}
        return problem_response(request, error.status, error.code, str(error), **members)
    if isinstance(error, TransientError):
        request.app.state.outages.note(error)
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        return problem_response(request, 503, error.code, str(error), headers=headers, **members)
    log.error("an error that no request should raise", exc_info=error)
    return _internal_error(request, error)


def describe(
    error: ValidationError | RequestValidationError, known: Collection[str] = ()
) -> list[dict[str, str]]:
    """Return what is wrong with which input, without pydantic's internals or the input itself.

    Args:
        error: what the validation found.
        known: the names that an unknown one may have been meant for.
    """
    return [
        {
            "field": ".".join(str(part) for part in item["loc"]),
            "message": _message(item, known),
        }
        for item in error.errors()
    ]


def _message(item: Mapping[str, Any], known: Collection[str]) -> str:
    if item["type"] == "extra_forbidden":
        meant = nearest(str(item["loc"][-1]), known)
        return "unknown" if meant is None else f"unknown (did you mean {meant!r}?)"
    return _LARGE_NUMBER.sub(lambda found: f"{int(found[0]):,}", str(item["msg"]))


def summarize(errors: Sequence[Mapping[str, str]]) -> str:
    """Return one sentence that names every wrong input."""
    return "; ".join(f"{error['field']}: {error['message']}" for error in errors)


def install_problem_handlers(app: FastAPI) -> None:
    """Make every failure of ``app`` answer in problem form."""

    @app.exception_handler(LonghandError)
    async def _(request: Request, error: LonghandError) -> JSONResponse:
        return error_response(request, error)

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = describe(error)
        return problem_response(
            request, InvalidRequest.status, InvalidRequest.code, summarize(errors), errors=errors
        )

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        if status == HTTPStatus.NO_CONTENT:
            return Response(status_code=status)
        return problem_response(
            request, status, status.name.lower(), error.detail, headers=error.headers
        )

    @app.exception_handler(ClientDisconnect)
    async def _(request: Request, _error: ClientDisconnect) -> JSONResponse:
        # Nobody reads this; it is for the log and the metrics.
        return problem_response(request, 400, "client_disconnected", "the client went away")

    app.add_exception_handler(Exception, _internal_error)


def _internal_error(request: Request, error: Exception) -> JSONResponse:
    """Answer without a word about the inside, which the log has; the server logs the traceback."""
    request_id = getattr(request.state, "request_id", "")
    log.error("request %s failed: %s", request_id, type(error).__name__)
    return problem_response(
        request,
        500,
        "internal_error",
        "an error on our side; the log has it by its request_id",
        # This answer is made outside the middleware that identifies all others.
        headers={"X-Request-Id": request_id},
    )
