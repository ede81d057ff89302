"""The WebSocket endpoints."""

from fastapi import APIRouter
from starlette.websockets import WebSocket

from api.access.routes import admit, needs
from api.live.stt import SttConnection
from api.live.transcribe import TranscribeConnection
from shared.store.accounts.scopes import Scope

router = APIRouter()


@needs(Scope.LIVE)
@router.websocket("/ws/stt")
async def serve_stt(websocket: WebSocket) -> None:
    """Serve a session with partials, finals and voice activity."""
    if (principal := await admit(websocket)) is not None:
        resources = websocket.app.state.resources
        await resources.limits.get(principal.tenant)
        await SttConnection(websocket, resources.live, principal.tenant, resources.recordings).run()


@needs(Scope.LIVE)
@router.websocket("/ws/transcribe")
async def serve_transcribe(websocket: WebSocket) -> None:
    """Serve a session that tells its whole text at the end."""
    if (principal := await admit(websocket)) is not None:
        resources = websocket.app.state.resources
        await resources.limits.get(principal.tenant)
        await TranscribeConnection(websocket, resources.live, principal.tenant).run()
