"""A job's audio, whole or in parts, so that a page can play it beside the transcript."""

import mimetypes
from collections.abc import Iterator
from itertools import chain
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from api.access.routes import needs, shared
from api.native.ids import JobId
from api.native.schemas.transcripts import Peaks
from api.negotiation import has_current
from api.openapi import Responses, problems
from api.ranges import Part, part_wanted
from api.resources import Provided, Tenant
from shared.infra.errors import (
    AudioDeleted,
    AudioNotFetched,
    JobNotFound,
    PeaksNotReady,
    RangeNotSatisfiable,
    StorageUnavailable,
)
from shared.infra.storage import Storage
from shared.store.accounts.scopes import Scope
from shared.store.jobs.audio import find_audio, find_peaks

router = APIRouter(tags=["jobs"])

_BLOCK_BYTES = 1 << 20
"""What is read from the object store and sent at once."""


def _answers() -> Responses:
    kinds = ("audio/*", "video/*", "application/octet-stream")
    content: dict[str, Any] = {
        kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds
    }
    return {
        200: {"description": "The file as it was received", "content": content},
        206: {"description": "The part that `Range` asks for", "content": content},
        304: {"description": "The client has it: `If-None-Match` names its `ETag`"},
    }


@needs(Scope.JOBS_READ)
@shared
@router.get(
    "/jobs/{job_id}/audio",
    summary="Get a job's audio",
    response_class=Response,
    responses=problems(
        *(JobNotFound, AudioNotFetched, AudioDeleted, RangeNotSatisfiable, StorageUnavailable)
    )
    | _answers(),
)
def show_audio(job_id: JobId, request: Request, resources: Provided, tenant: Tenant) -> Response:
    """Return a job's file as it was received while it is kept, then its listening copy, if any.

    The copy is Ogg with Opus. Range requests get a part. The file of an `audio_url` is there
    once it is fetched.

    A job that got an equal one's transcript has that one's file, which has the same bytes.
    """
    audio = find_audio(resources.engine, tenant, job_id)
    etag = f'"{audio.version}"'
    headers = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(audio.name, safe='')}",
    }
    if has_current(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    part = part_wanted(
        request.headers.get("range", ""),
        request.headers.get("if-range", ""),
        etag=etag,
        n_bytes=audio.n_bytes,
    )
    sent = part or Part(0, audio.n_bytes)
    headers["Content-Length"] = str(sent.stop - sent.start)
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{audio.n_bytes}"
    blocks = _blocks(resources.storage, audio.key, sent)
    # The first block is read here, so that the object store's failure is told as a problem.
    return StreamingResponse(
        chain([next(blocks, b"")], blocks),
        status_code=200 if part is None else 206,
        headers=headers,
        media_type=_media_type(audio.name),
    )


@needs(Scope.JOBS_READ)
@shared
@router.get(
    "/jobs/{job_id}/peaks",
    summary="Get the peaks of a job's audio",
    responses=problems(JobNotFound, PeaksNotReady),
)
def show_peaks(job_id: JobId, resources: Provided, tenant: Tenant) -> Peaks:
    """Return the loudness of a job's audio over time, for a waveform: some thousand numbers.

    They are computed as the audio is prepared, of all channels together, and kept with the job.
    """
    duration_s, peaks = find_peaks(resources.engine, tenant, job_id)
    return Peaks(duration_s=duration_s, peaks=list(peaks))


def _blocks(storage: Storage, key: str, part: Part) -> Iterator[bytes]:
    for start in range(part.start, part.stop, _BLOCK_BYTES):
        yield storage.read(key, start, min(start + _BLOCK_BYTES, part.stop))


def _media_type(name: str) -> str:
    """Return the type that a file's name suggests, if a browser would play it and not show it."""
    guessed, encoding = mimetypes.guess_type(name)
    is_media = guessed is not None and guessed.startswith(("audio/", "video/"))
    return guessed if guessed and is_media and encoding is None else "application/octet-stream"
