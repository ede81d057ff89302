"""What goes wrong in a session, under the codes of ``/ws/stt``."""

from typing import Literal

Code = Literal[
    "INVALID_MESSAGE",
    "SESSION_EXISTS",
    "SESSION_NOT_FOUND",
    "SESSION_DISPLACED",
    "MAX_SESSIONS_REACHED",
    "QUEUE_FULL",
    "QUEUE_CONGESTION",
    "INFERENCE_ERROR",
    "SAVE_FAILED",
    "SPEAKERS_UNAVAILABLE",
    "INTERNAL_ERROR",
]

TRY_AGAIN_LATER = 1013
"""Close code of a server that is full."""
SERVICE_RESTART = 1012
"""Close code of a server that stops."""
INTERNAL_ERROR = 1011
POLICY_VIOLATION = 1008
INVALID_PAYLOAD = 1007


class LiveError(Exception):
    """A message that cannot be followed; the client is told."""

    def __init__(self, code: Code, message: str, close: int | None = None) -> None:
        """``close``: the code with which the connection is closed; None: it stays open."""
        super().__init__(message)
        self.code: Code = code
        self.close = close
