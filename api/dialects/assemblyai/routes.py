"""AssemblyAI's REST routes, and tokens for live sessions."""

from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Request, Response

from api.access.routes import needs
from api.access.socket_tokens import LIFETIME_S
from api.dialects.assemblyai.answers import (
    STATUSES,
    answer,
    answer_paragraphs,
    answer_sentences,
    answer_word_search,
    audio_url_of,
    error_of,
    status_of,
)
from api.dialects.assemblyai.body import UPLOADED, ListQuery, read_body, read_list_query
from api.dialects.assemblyai.live_tables import TOKEN
from api.dialects.assemblyai.tables import MODELS, SUBTITLES, WORD_SEARCH
from api.dialects.models import model_of
from api.idempotency import submit_once
from api.intake.bodies import MAX_JSON_BYTES, client_network, declared_bytes, read_upload
from api.intake.bodies import read_body as read_bytes
from api.intake.json_job import reference_source
from api.intake.submit import Terms
from api.native.answers import stream
from api.native.ids import UUID_SCHEMA, parse_id
from api.resources import Asking, Provided, Resources, Tenant
from api.uploads.whole import receive_upload
from shared.infra.errors import (
    InvalidParameter,
    JobNotFound,
    TranscriptDeleted,
    UnsupportedMediaType,
)
from shared.infra.file_names import NAMELESS, header_file_name
from shared.speech.files.cues import CUE_LINES, MAX_LINE_COLUMNS, MIN_LINE_COLUMNS
from shared.speech.files.formats import render
from shared.store.accounts.scopes import Scope
from shared.store.jobs.delete import delete_job
from shared.store.jobs.read import JobView, find_page, get_job
from shared.store.states import JobState
from shared.store.transcripts import StoredTranscript, open_transcript
from shared.store.webhooks.deliveries import find_own_webhook

router = APIRouter()

MAX_PHRASES, MAX_PHRASE_WORDS = 100, 5
"""Of a search."""
MAX_TOKEN_S = 600
"""The longest life that AssemblyAI's clients may ask for."""


async def _transcript_id(transcript_id: Annotated[str, Path(**UUID_SCHEMA)]) -> UUID:
    found = parse_id(transcript_id)
    if found is None:
        raise JobNotFound(f"there is no transcript {transcript_id}")
    return found


TranscriptId = Annotated[UUID, Depends(_transcript_id)]


@needs(Scope.JOBS_WRITE)
@router.post("/v2/upload")
async def upload(request: Request, resources: Provided, tenant: Tenant) -> dict[str, str]:
    """Store the body, which is a file, for a transcript of the same tenant."""
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        raise UnsupportedMediaType("send the file itself as the body, no form")
    stored = await receive_upload(
        resources.intake,
        tenant,
        read_upload(request, resources.upload_bytes.inc),
        n_bytes=declared_bytes(request),
        client=client_network(request),
        name=header_file_name(request.headers.get("content-disposition", "")) or NAMELESS,
    )
    return {"upload_url": f"{UPLOADED}{stored.id}"}


@needs(Scope.JOBS_WRITE)
@router.post("/v2/transcript")
async def create_transcript(request: Request, resources: Provided, tenant: Tenant) -> Response:
    """Take a file at a URL, or one that was uploaded, and queue its transcription."""
    known_models = partial(
        model_of,
        vendor=MODELS,
        catalogue=resources.catalogue,
        aliases=resources.settings.model_alias_map,
    )
    _, body = await read_bytes(request, ("application/json",), MAX_JSON_BYTES)
    asked = read_body(body, known_models, resources.outbound)
    source = await reference_source(resources.intake, tenant, asked.file)
    terms = Terms(webhook=asked.webhook)
    submitted = await submit_once(request, resources, tenant, source, terms)
    return await to_thread.run_sync(_show, resources, tenant, submitted.created.job_id)


@needs(Scope.JOBS_READ)
@router.get("/v2/transcript")
def list_transcripts(request: Request, resources: Provided, tenant: Tenant) -> dict[str, Any]:
    """List transcripts, the newest first."""
    query = read_list_query(request.query_params)
    found = find_page(
        resources.engine,
        tenant,
        limit=query.limit,
        before=query.before_id,
        after=query.after_id,
        states=tuple(JobState) if query.status is None else STATUSES[query.status],
        created_on=query.created_on,
    )
    base = f"{resources.settings.public_url}/v2/transcript"
    views = found.views
    page_url = partial(_page_url, base, query)
    return {
        "page_details": {
            "limit": query.limit,
            "result_count": len(views),
            "current_url": page_url(before_id=query.before_id, after_id=query.after_id),
            "prev_url": page_url(before_id=views[-1].id) if views and found.has_older else None,
            "next_url": page_url(after_id=views[0].id) if views and found.has_newer else None,
        },
        "transcripts": [_item(base, view) for view in views],
    }


@needs(Scope.JOBS_READ)
@router.get("/v2/transcript/{transcript_id}")
def show_transcript(transcript_id: TranscriptId, resources: Provided, tenant: Tenant) -> Response:
    """Return a transcript, whatever its status."""
    return _show(resources, tenant, transcript_id)


@needs(Scope.JOBS_WRITE)
@router.delete("/v2/transcript/{transcript_id}")
def delete_transcript(transcript_id: TranscriptId, resources: Provided, tenant: Tenant) -> Response:
    """Remove a transcript and its job; the answer says which it was, without its text."""
    view = get_job(resources.engine, tenant, transcript_id)
    webhook = find_own_webhook(resources.engine, tenant, transcript_id)
    attempts = resources.settings.max_attempts
    delete_job(resources.engine, tenant, transcript_id, max_attempts=attempts)
    resources.remover.ring()
    return answer(view, None, webhook)


@needs(Scope.JOBS_READ)
@router.get("/v2/transcript/{transcript_id}/srt")
def show_srt(
    transcript_id: TranscriptId, request: Request, resources: Provided, tenant: Tenant
) -> Response:
    """Return subtitles for SubRip."""
    return _subtitles("srt", transcript_id, request, resources, tenant)


@needs(Scope.JOBS_READ)
@router.get("/v2/transcript/{transcript_id}/vtt")
def show_vtt(
    transcript_id: TranscriptId, request: Request, resources: Provided, tenant: Tenant
) -> Response:
    """Return subtitles for WebVTT."""
    return _subtitles("vtt", transcript_id, request, resources, tenant)


@needs(Scope.JOBS_READ)
@router.get("/v2/transcript/{transcript_id}/sentences")
def show_sentences(transcript_id: TranscriptId, resources: Provided, tenant: Tenant) -> Response:
    """Return the sentences of a transcript."""
    return answer_sentences(*_completed(resources, tenant, transcript_id))


@needs(Scope.JOBS_READ)
@router.get("/v2/transcript/{transcript_id}/paragraphs")
def show_paragraphs(transcript_id: TranscriptId, resources: Provided, tenant: Tenant) -> Response:
    """Return the paragraphs of a transcript."""
    return answer_paragraphs(*_completed(resources, tenant, transcript_id))


@needs(Scope.JOBS_READ)
@router.get("/v2/transcript/{transcript_id}/word-search")
def search_words(
    transcript_id: TranscriptId, request: Request, resources: Provided, tenant: Tenant
) -> dict[str, Any]:
    """Return where words are said."""
    view, transcript = _completed(resources, tenant, transcript_id)
    given = WORD_SEARCH.check(request.query_params).get("words", "")
    phrases = list(dict.fromkeys(filter(None, map(str.strip, given.split(",")))))
    if not 1 <= len(phrases) <= MAX_PHRASES:
        raise InvalidParameter(f"words: give 1 to {MAX_PHRASES}, with commas between", "words")
    if any(len(phrase.split()) > MAX_PHRASE_WORDS for phrase in phrases):
        raise InvalidParameter(f"words: a phrase has up to {MAX_PHRASE_WORDS} words", "words")
    return answer_word_search(view, transcript, phrases)


@needs(Scope.LIVE)
@router.get("/v3/token")
async def show_token(request: Request, resources: Provided, asking: Asking) -> dict[str, Any]:
    """Return a token that opens one WebSocket, for a page that must know no key."""
    given = TOKEN.check(request.query_params).get("expires_in_seconds", "60")
    wanted_s = int(given) if given.isascii() and given.isdigit() and len(given) < 4 else 0
    if not 1 <= wanted_s <= MAX_TOKEN_S:
        raise InvalidParameter(
            f"expires_in_seconds is a number from 1 to {MAX_TOKEN_S}", "expires_in_seconds"
        )
    token = await resources.authenticator.issue_token(asking)
    return {"token": token, "expires_in_seconds": LIFETIME_S}


def _show(resources: Resources, tenant: str, job_id: UUID) -> Response:
    view = get_job(resources.engine, tenant, job_id)
    webhook = find_own_webhook(resources.engine, tenant, job_id)
    if view.state != JobState.SUCCEEDED or view.transcript_deleted_at is not None:
        return answer(view, None, webhook)
    try:
        return answer(view, open_transcript(resources.engine, tenant, job_id), webhook)
    except TranscriptDeleted:  # since the job was read
        return answer(view, None, webhook)


def _completed(resources: Resources, tenant: str, job_id: UUID) -> tuple[JobView, StoredTranscript]:
    """Return a job that has a transcript, and that.

    Raises:
        JobNotFound, TranscriptNotReady, TranscriptDeleted: there is none.
    """
    transcript = open_transcript(resources.engine, tenant, job_id)
    return get_job(resources.engine, tenant, job_id), transcript


def _subtitles(
    kind: str, job_id: UUID, request: Request, resources: Resources, tenant: str
) -> Response:
    _, transcript = _completed(resources, tenant, job_id)
    given = SUBTITLES.check(request.query_params).get("chars_per_caption")
    columns = None
    if given is not None:
        columns = int(given) if given.isascii() and given.isdigit() and len(given) < 5 else 0
        if not MIN_LINE_COLUMNS <= columns <= MAX_LINE_COLUMNS:
            raise InvalidParameter(
                f"chars_per_caption is a number from {MIN_LINE_COLUMNS} to {MAX_LINE_COLUMNS}",
                "chars_per_caption",
            )
    rendered = render(
        transcript.header,
        transcript.segments,
        kind,
        line_columns=columns,
        max_lines=CUE_LINES if columns is None else 1,
    )
    return stream(rendered.blocks, "text/plain; charset=utf-8")


def _page_url(base: str, query: ListQuery, **cursor: UUID | None) -> str:
    asked = {
        "limit": query.limit,
        "status": query.status,
        "created_on": query.created_on,
        **cursor,
    }
    return f"{base}?{urlencode({name: value for name, value in asked.items() if value})}"


def _item(base: str, view: JobView) -> dict[str, Any]:
    return {
        "id": str(view.id),
        "resource_url": f"{base}/{view.id}",
        "status": status_of(view),
        "created": view.created_at,
        "completed": view.finished_at,
        "audio_url": audio_url_of(view),
        "error": error_of(view),
    }
