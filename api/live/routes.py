"""The WebSocket endpoints."""

from collections.abc import Callable

from fastapi import APIRouter
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket

from api.access.principal import Principal
from api.access.routes import admit, needs
from api.limits.dependencies import count_request
from api.live.stt import SttConnection
from api.live.transcribe import TranscribeConnection
from api.problems import error_response
from shared.infra.errors import RateLimited
from shared.store.accounts.scopes import Scope

router = APIRouter()


@needs(Scope.LIVE)
@router.websocket("/ws/stt")
async def serve_stt(websocket: WebSocket) -> None:
    """Serve a session with partials, finals and voice activity."""
    if (principal := await let_in(websocket)) is not None:
        resources = websocket.app.state.resources
        await SttConnection(websocket, resources.live, principal.tenant, resources.recordings).run()


@needs(Scope.LIVE)
@router.websocket("/ws/transcribe")
async def serve_transcribe(websocket: WebSocket) -> None:
    """Serve a session that tells its whole text at the end."""
    if (principal := await let_in(websocket)) is not None:
        live = websocket.app.state.resources.live
        await TranscribeConnection(websocket, live, principal.tenant).run()


async def let_in(
    websocket: WebSocket,
    answer: Callable[[HTTPConnection, Exception], Response] = error_response,
    token: str = "",
) -> Principal | None:
    """Return who opens a WebSocket; None: they may not, or not now, and have been told so.

    ``answer`` and ``token`` are those of a dialect, as in ``admit``.
    """
    if (principal := await admit(websocket, answer, token)) is not None:
        try:
            await count_request(websocket, websocket.app.state.resources)
        except RateLimited as error:
            await websocket.send_denial_response(answer(websocket, error))
            return None
    return principal
