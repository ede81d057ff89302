"""OpenAI's errors: ``{"error": {"message", "type", "param", "code"}}``, and when to retry."""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response

from api.problems import Failure, failure_of
from shared.infra import errors

LONGEST_RETRY_AFTER_S = 60
"""OpenAI's SDKs wait no longer for what they send again."""

_STATUSES: Mapping[str, int] = {
    errors.UnknownModel.code: 404,
    errors.ModelNotServed.code: 404,
    errors.SpeakersUnavailable.code: 400,
    errors.InvalidRequest.code: 400,
    errors.UnsupportedMediaType.code: 400,
}
"""Of codes whose status is another than the native one. All 422 are 400."""

_CODES: Mapping[str, str] = {
    errors.Unauthenticated.code: "invalid_api_key",
    errors.UnknownModel.code: "model_not_found",
    errors.ModelNotServed.code: "model_not_found",
    errors.RateLimited.code: "rate_limit_exceeded",
}
"""OpenAI's words for codes that clients may look at; the others are ours."""

_PARAMS: Mapping[str, str] = {
    errors.UnknownModel.code: "model",
    errors.ModelNotServed.code: "model",
    errors.UnsupportedLanguage.code: "language",
    errors.EmptyFile.code: "file",
    errors.UploadTooLarge.code: "file",
    errors.AudioRefused.code: "file",
}


def answer_error(_: HTTPConnection, error: Exception) -> Response:
    """Return the answer to an error; ``x-should-retry`` tells SDKs whether to send it again."""
    failure = failure_of(error)
    status = status_of(failure)
    after_s = int(failure.headers.get("Retry-After", 0))
    again = status in (408, 429, 503) and after_s <= LONGEST_RETRY_AFTER_S
    headers = {**failure.headers, "x-should-retry": str(again).lower()}
    return JSONResponse({"error": error_object(failure)}, status, headers)


def error_object(failure: Failure) -> dict[str, str | None]:
    """Return the members of an error."""
    status = status_of(failure)
    return {
        "message": failure.detail,
        "type": _type_of(status),
        "param": failure.members.get("param") or _PARAMS.get(failure.code),
        "code": _CODES.get(failure.code, failure.code),
    }


def status_of(failure: Failure) -> int:
    """Return the status that OpenAI gives such an error."""
    if failure.code in _STATUSES:
        return _STATUSES[failure.code]
    return HTTPStatus.BAD_REQUEST if failure.status == 422 else failure.status


def _type_of(status: int) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    if status == HTTPStatus.FORBIDDEN:
        return "permission_error"
    return "invalid_request_error" if status < 500 else "server_error"
