"""AssemblyAI's errors: ``{"error": "..."}``."""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response

from api.problems import failure_of
from shared.infra import errors

_STATUSES: Mapping[str, int] = {
    errors.ModelNotServed.code: 400,
    errors.SpeakersUnavailable.code: 400,
    errors.UnsupportedMediaType.code: 400,
    errors.UploadNotFound.code: 400,
    errors.TranscriptNotReady.code: 400,
    errors.TranscriptDeleted.code: 404,
}
"""Of codes whose status is another than the native one. All 422 are 400."""


def answer_error(_: HTTPConnection, error: Exception) -> Response:
    """Return the answer to an error."""
    failure = failure_of(error)
    status = _STATUSES.get(failure.code, failure.status)
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    return JSONResponse({"error": failure.detail}, status, failure.headers)
