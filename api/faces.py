"""Faces: parts of one application that answer errors in different forms.

A face is a path prefix and a function that answers all errors below it: errors of the domain,
requests that FastAPI finds invalid, paths that do not exist, and bugs. All faces share the
application, its resources and its metrics.
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
"""Makes the answer to an error, from ``api.problems.failure_of``, which hides what is internal."""


def install_faces(app: FastAPI, answer: ErrorAnswer) -> None:
    """Answer all errors of ``app`` with ``answer``, except below the prefixes added later."""
    faces: dict[str, ErrorAnswer] = {}
    app.state.faces = faces

    async def respond(request: Request, error: Exception) -> Response:
        if isinstance(error, TransientError):
            request.app.state.outages.note(error)
        path = request.scope["path"]
        own = [prefix for prefix in faces if path == prefix or path.startswith(f"{prefix}/")]
        face = faces[max(own, key=len)] if own else answer
        return face(request, error)

    async def respond_to_bug(request: Request, error: Exception) -> Response:
        # The server logs the traceback.
        request_id = getattr(request.state, "request_id", "")
        log.error("request %s failed: %s", request_id, type(error).__name__)
        response = await respond(request, error)
        # The middleware that adds this header to all other answers does not see this one.
        response.headers["X-Request-Id"] = request_id
        # The server ends the connection after a bug, so no client should send more on it.
        response.headers["Connection"] = "close"
        return response

    # For middleware, which is outside of the exception handlers.
    app.state.answer_error = respond
    for kind in (LonghandError, RequestValidationError, HTTPException, ClientDisconnect):
        app.add_exception_handler(kind, respond)
    app.add_exception_handler(Exception, respond_to_bug)


def add_face(app: FastAPI, prefix: str, answer: ErrorAnswer) -> None:
    """Answer errors at a prefix, such as ``/v1``, and below it with ``answer``.

    Within another face's prefix the longer one counts. ``install_faces`` must have been called.
    """
    app.state.faces[prefix] = answer
