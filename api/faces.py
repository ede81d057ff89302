"""Faces: parts of one application that answer errors in different forms.

A face is a path prefix and a function that makes the answer to an error. Everything that goes wrong
below the prefix is answered by it: errors of the domain, requests that FastAPI finds invalid, paths
that do not exist, and bugs. All faces share the application, its resources and its metrics.
"""

import logging
from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from shared.infra.errors import LonghandError, TransientError

log = logging.getLogger(__name__)

ErrorAnswer = Callable[[Request, Exception], Response]
"""Makes the answer to an error; ``api.problems.failure_of`` says what may be told of it."""


def install_faces(app: FastAPI, answer: ErrorAnswer) -> None:
    """Have all errors of ``app`` answered by ``answer``, but for the prefixes added afterwards."""
    faces: dict[str, ErrorAnswer] = {}
    app.state.faces = faces

    async def respond(request: Request, error: Exception) -> Response:
        if isinstance(error, TransientError):
            request.app.state.outages.note(error)
        path = request.scope["path"]
        for prefix, own in faces.items():
            if path == prefix or path.startswith(f"{prefix}/"):
                return own(request, error)
        return answer(request, error)

    async def respond_to_bug(request: Request, error: Exception) -> Response:
        # The server logs the traceback.
        request_id = getattr(request.state, "request_id", "")
        log.error("request %s failed: %s", request_id, type(error).__name__)
        response = await respond(request, error)
        # This answer is made outside the middleware that identifies all others.
        response.headers["X-Request-Id"] = request_id
        return response

    for kind in (LonghandError, RequestValidationError, HTTPException, ClientDisconnect):
        app.add_exception_handler(kind, respond)
    app.add_exception_handler(Exception, respond_to_bug)


def add_face(app: FastAPI, prefix: str, answer: ErrorAnswer) -> None:
    """Have errors at ``prefix`` and below it answered by ``answer``.

    Args:
        app: has its faces installed.
        prefix: such as ``/v1``; not within that of another face.
        answer: makes the answers.
    """
    app.state.faces[prefix] = answer
