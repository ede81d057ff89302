"""What the live adapters of all dialects share: who is let in, and what they know then."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket

from api.dialects.models import finder
from api.live.connection import Connection
from api.live.errors import INVALID_PAYLOAD, LiveError
from api.live.routes import let_in
from api.live.sessions import LiveSessions
from shared.models.catalogue import Catalogue
from shared.speech.audio.rate import SAMPLE_RATE

MAX_PROMPT_CHARS = 1_000
"""Of a longer prompt the end counts: a model goes on from it."""


@dataclass(frozen=True, slots=True)
class Talker:
    """A client that has been let in."""

    websocket: WebSocket
    live: LiveSessions
    tenant: str
    catalogue: Catalogue
    find_model: Callable[[str | None], str]
    """Returns the id of a model by its name in the dialect (``api.dialects.models``)."""


async def let_talk(
    websocket: WebSocket,
    answer_error: Callable[[HTTPConnection, Exception], Response],
    vendor_models: Sequence[str],
    token: str = "",
) -> Talker | None:
    """Return who opens a WebSocket; None: they may not, and have been told so as in ``let_in``."""
    principal = await let_in(websocket, answer_error, token)
    if principal is None:
        return None
    resources = websocket.app.state.resources
    find_model = finder(vendor_models, resources)
    return Talker(websocket, resources.live, principal.tenant, resources.catalogue, find_model)


class DialectConnection(Connection):
    """A client of a dialect's live API."""

    def __init__(self, talker: Talker) -> None:
        super().__init__(talker.websocket, talker.live, talker.tenant)
        self._find_model = talker.find_model
        self._catalogue = talker.catalogue

    def _send(self, kind: str, key: str | None = None, **members: Any) -> None:
        """Send a message of this type, in place of one with the same key as ``send`` does."""
        self.send({"type": kind, **members}, key)


def invalid(error: Exception) -> LiveError:
    """Return the error that ends a session because its client asks for what cannot be."""
    return LiveError("INVALID_MESSAGE", str(error), INVALID_PAYLOAD)


def milliseconds(samples: int) -> int:
    """Return a position or a duration as dialects write it."""
    return round(1000 * samples / SAMPLE_RATE)
