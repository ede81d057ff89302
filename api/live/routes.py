"""The WebSocket endpoints."""

from fastapi import APIRouter
from starlette.websockets import WebSocket

from api.live.stt import SttConnection
from api.live.transcribe import TranscribeConnection
from shared.store.limits import DEFAULT_TENANT

router = APIRouter()


@router.websocket("/ws/stt")
async def serve_stt(websocket: WebSocket) -> None:
    """Serve a session with partials, finals and voice activity."""
    resources = websocket.app.state.resources
    await resources.limits.get(DEFAULT_TENANT)
    await SttConnection(websocket, resources.live, DEFAULT_TENANT, resources.recordings).run()


@router.websocket("/ws/transcribe")
async def serve_transcribe(websocket: WebSocket) -> None:
    """Serve a session that tells its whole text at the end."""
    resources = websocket.app.state.resources
    await resources.limits.get(DEFAULT_TENANT)
    await TranscribeConnection(websocket, resources.live, DEFAULT_TENANT).run()
