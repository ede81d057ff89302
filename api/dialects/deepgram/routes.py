"""Deepgram's REST routes: recordings, and tokens for live sessions."""

from functools import partial
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from api.access.routes import needs
from api.access.socket_tokens import LIFETIME_S
from api.dialects.deepgram.callback import webhook_of
from api.dialects.deepgram.live_tables import GRANT
from api.dialects.deepgram.query import read_query
from api.dialects.deepgram.tables import MODELS
from api.dialects.models import model_of
from api.idempotency import submit_once
from api.intake.bodies import (
    MAX_JSON_BYTES,
    client_network,
    declared_bytes,
    read_body,
    read_upload,
)
from api.intake.json_job import FileReference, reference_source
from api.intake.raw import RawBody
from api.intake.submit import Remote, Source, Terms, Uploaded
from api.native import snapshots
from api.native.answers import stream
from api.native.call import called, canceled_if_deleted, counted, end_of, transcript_of
from api.native.call_metrics import CallMetrics
from api.resources import Asking, Provided, Resources, Tenant, from_state
from shared.infra.errors import (
    InvalidParameter,
    JobUnfinished,
    UnsupportedMediaType,
    UploadTooLarge,
)
from shared.infra.file_names import NAMELESS, header_file_name
from shared.models.options import JobOptions
from shared.speech.dialects.deepgram import write_answer
from shared.speech.files.formats import in_blocks
from shared.store.accounts.scopes import Scope

router = APIRouter()

WAIT_S = 50.0
"""Deepgram's SDKs wait for an answer for 60 s and do not try again then. They do at a 503, and the
job is found by the file's bytes."""
_MAX_JSON_BYTES = 64 * 1024


_OBJECT = TypeAdapter(dict[str, Any])


class _Located(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    url: str


@needs(Scope.JOBS_WRITE)
@router.post("/v1/listen")
async def listen(
    request: Request,
    resources: Provided,
    loader: snapshots.Provided,
    metrics: Annotated[CallMetrics, from_state("call_metrics")],
    tenant: Tenant,
    principal: Asking,
) -> Response:
    """Transcribe a file that is the body, or at the URL in it, and answer when that is done.

    With a callback the answer goes there, and this one has the id alone.
    """
    known_models = partial(
        model_of,
        vendor=MODELS,
        catalogue=resources.catalogue,
        aliases=resources.settings.model_alias_map,
    )
    asked = read_query(request.query_params, known_models)
    if asked.callback is not None:
        hook = webhook_of(asked.callback, asked.wish, resources.outbound, principal.key_id)
        source = await _source_of(request, resources, tenant, asked.options)
        terms = Terms(webhook=hook)
        submitted = await submit_once(request, resources, tenant, source, terms)
        return JSONResponse({"request_id": str(submitted.created.job_id)})
    with counted(metrics):
        source = await _source_of(request, resources, tenant, asked.options)
        async with called(request, resources, tenant, source) as call:
            snapshot = await end_of(call, request, resources, loader, WAIT_S)
        view = snapshot.view
        if not view.ended:
            raise JobUnfinished("it takes longer; send the same again: the job goes on")
        with canceled_if_deleted(call.job_id):
            answered = await transcript_of(call, snapshot, resources, metrics, words=True)
            engine = resources.catalogue.get(view.model).engine
            parts = write_answer(view, engine, answered.transcript, asked.wish)
            return await to_thread.run_sync(stream, in_blocks(parts), "application/json")


@needs(Scope.LIVE)
@router.post("/v1/auth/grant")
async def grant_token(
    request: Request, resources: Provided, asking: Asking
) -> dict[str, str | float]:
    """Return a token that opens one WebSocket, for a page that must know no key."""
    if request.headers.get("content-length", "0") != "0":
        _, body = await read_body(request, ("application/json",), MAX_JSON_BYTES)
        try:
            GRANT.check(_OBJECT.validate_json(body))
        except ValidationError as error:
            raise InvalidParameter("the body is no JSON object") from error
    token = await resources.authenticator.issue_token(asking)
    return {"access_token": token, "expires_in": LIFETIME_S}


async def _source_of(
    request: Request, resources: Resources, tenant: str, asked: JobOptions
) -> Source | Remote | Uploaded:
    """Return the file of a request; nothing is read yet of one that is the body.

    Raises:
        RequestError: what is known so far is refused.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/json":
        url = await _url_in(request)
        named = FileReference.model_construct(**dict(asked), audio_url=url)
        return await reference_source(resources.intake, tenant, named)
    if media_type.startswith("multipart/"):
        raise UnsupportedMediaType(
            'send the file itself as the body, or {"url": "https://..."} as application/json'
        )
    return RawBody(
        declared_bytes(request),
        read_upload(request, resources.upload_bytes.inc),
        asked,
        header_file_name(request.headers.get("content-disposition", "")) or NAMELESS,
        resources.intake.options,
        client=client_network(request),
        max_file_bytes=resources.limits.known(tenant).max_upload_bytes,
    )


async def _url_in(request: Request) -> str:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_JSON_BYTES:
            raise UploadTooLarge("the JSON body is too large; send a file as application/...")
    try:
        return _Located.model_validate_json(bytes(body)).url
    except ValidationError as error:
        raise InvalidParameter('the body must be {"url": "https://..."}', "url") from error
