"""Deepgram's errors: ``{"err_code", "err_msg", "request_id"}``."""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response

from api.problems import failure_of
from shared.infra import errors
from shared.speech.dialects.deepgram import BAD_REQUEST, error_body

_STATUSES: Mapping[str, int] = {
    errors.UnknownModel.code: 400,
    errors.ModelNotServed.code: 400,
    errors.SpeakersUnavailable.code: 400,
    errors.UnsupportedMediaType.code: 400,
}
"""Of codes whose status is another than the native one. All 422 are 400."""

_CODES: Mapping[int, str] = {
    400: BAD_REQUEST,
    401: "INVALID_AUTH",
    403: "INSUFFICIENT_PERMISSIONS",
    408: "SLOW_UPLOAD",
    413: "PAYLOAD_TOO_LARGE",
    429: "TOO_MANY_REQUESTS",
}
"""Deepgram's words, by status; the others are ours."""


def answer_error(request: HTTPConnection, error: Exception) -> Response:
    """Return the answer to an error."""
    failure = failure_of(error)
    status = _STATUSES.get(failure.code, failure.status)
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    request_id = getattr(request.state, "request_id", "")
    body = error_body(_CODES.get(status, failure.code), failure.detail, request_id)
    return JSONResponse(body, status, failure.headers)
