"""The files of the page, which come from ``web/page`` and from nowhere else."""

import gzip
import hashlib
import re
from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from api.access.routes import public
from api.negotiation import has_current

FOLDER = Path(__file__).parents[2] / "web/page"
PREFIX = "/page/"
SHELL = "index.html"

_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_IMPORT_MAP = re.compile(rb'<script type="importmap">(.*?)</script>', re.DOTALL)

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class File:
    """A file of the page in memory."""

    content: bytes
    gzipped: bytes
    media_type: str
    etag: str

    def answer(self, request: Request, **headers: str) -> Response:
        """Return the answer to a request for the file, compressed if the client takes that."""
        told = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": policy(),
            "ETag": self.etag,
            "Vary": "Accept-Encoding",
            **headers,
        }
        if has_current(request.headers.get("if-none-match", ""), self.etag):
            return Response(status_code=304, headers=told)
        content = self.content
        if "gzip" in request.headers.get("accept-encoding", ""):
            content, told["Content-Encoding"] = self.gzipped, "gzip"
        return Response(content, headers=told, media_type=self.media_type)


@cache
def files() -> dict[str, File]:
    """Return the page's files by their paths in its folder."""
    return {
        str(path.relative_to(FOLDER)): _read(path)
        for path in FOLDER.rglob("*")
        if path.suffix in _MEDIA_TYPES
    }


def shell(request: Request) -> Response:
    """Return the document that loads the rest."""
    return files()[SHELL].answer(request, Vary="Accept, Accept-Encoding")


@cache
def policy() -> str:
    """Return the page's Content-Security-Policy.

    The import map, which browsers take within the document alone, is allowed by its hash.
    """
    (import_map,) = _IMPORT_MAP.findall(files()[SHELL].content)
    digest = b64encode(hashlib.sha256(import_map).digest()).decode()
    return (
        f"default-src 'self'; script-src 'self' 'sha256-{digest}'; media-src 'self' blob:; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@public
@router.get(f"{PREFIX}{{path:path}}")
async def show_file(path: str, request: Request) -> Response:
    """Return a file of the page."""
    file = files().get(path)
    if file is None or path == SHELL:
        raise HTTPException(404)
    return file.answer(request)


def _read(path: Path) -> File:
    content = path.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return File(content, gzip.compress(content, mtime=0), _MEDIA_TYPES[path.suffix], etag)
