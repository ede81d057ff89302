"""The page ``/live``: the microphone in a browser, and the text beside it."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

PAGES = Path(__file__).parents[2] / "web"
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

router = APIRouter(include_in_schema=False)


@router.get("/live")
def show_page() -> FileResponse:
    """Return the page."""
    return FileResponse(PAGES / "live/index.html", headers=HEADERS)


@router.get("/live/page.js")
def show_script() -> FileResponse:
    """Return what the page does."""
    return FileResponse(PAGES / "live/page.js", headers=HEADERS)


@router.get("/live/session.js")
def show_session() -> FileResponse:
    """Return the client of ``/ws/stt``, for the page and for pages of others."""
    return FileResponse(PAGES / "live/session.js", headers=HEADERS)


@router.get("/live/microphone.js")
def show_microphone() -> FileResponse:
    """Return what makes PCM of the microphone, for the page and for its AudioWorklet."""
    return FileResponse(PAGES / "live/microphone.js", headers=HEADERS)
