"""A server's refusals as the errors that LiveKit knows: its retries read their status."""

from typing import Any

from livekit.agents import APIConnectionError, APIStatusError

PASSING = {"QUEUE_FULL", "QUEUE_CONGESTION"}
"""Codes of errors in a session that goes on: texts come later than usual."""
STATUS_OF = {
    "INVALID_MESSAGE": 400,
    "SESSION_EXISTS": 409,
    "SESSION_NOT_FOUND": 404,
    "SESSION_DISPLACED": 409,
    "MAX_SESSIONS_REACHED": 503,
    "QUEUE_FULL": 503,
    "QUEUE_CONGESTION": 503,
    "INFERENCE_ERROR": 500,
    "INTERNAL_ERROR": 500,
}
"""HTTP's word for each code of ``/ws/stt``. LiveKit tries again from 500 on."""


def session_error(message: dict[str, Any]) -> APIStatusError:
    """Return the error for a message ``error`` of a session."""
    code = str(message.get("code", ""))
    return APIStatusError(
        f"{message.get('message', 'the session failed')} ({code})",
        status_code=STATUS_OF.get(code, 500),
        body=message,
    )


def lost(reason: str) -> APIConnectionError:
    """Return the error for a connection that ended too early."""
    return APIConnectionError(f"connection to Longhand lost: {reason}")
