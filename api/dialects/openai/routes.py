"""OpenAI's REST routes for audio."""

from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Depends, Request, Response

from api.access.routes import needs
from api.dialects.models import model_of
from api.dialects.openai.answers import answer, needs_words
from api.dialects.openai.form import AudioForm
from api.dialects.openai.streams import TextStream
from api.dialects.openai.tables import MODELS, TRANSCRIPTION, TRANSLATION
from api.dialects.parameters import Operation
from api.native import snapshots
from api.native.call import called, counted, end_of, transcript_of
from api.native.call_metrics import CallMetrics
from api.native.ways_in import form_of
from api.parameters import refuse_unknown_parameters
from api.resources import Provided, Resources, Tenant, find_served, from_state
from shared.infra.errors import JobUnfinished
from shared.store.accounts.scopes import Scope

router = APIRouter(dependencies=[Depends(refuse_unknown_parameters)])

Metrics = Annotated[CallMetrics, from_state("call_metrics")]
Task = Literal["transcribe", "translate"]


@needs(Scope.JOBS_WRITE)
@router.post("/v1/audio/transcriptions")
async def create_transcription(
    request: Request,
    resources: Provided,
    loader: snapshots.Provided,
    metrics: Metrics,
    tenant: Tenant,
) -> Response:
    """Transcribe a file, and answer as soon as its job has ended, however long that takes."""
    return await _serve(TRANSCRIPTION, "transcribe", request, resources, loader, metrics, tenant)


@needs(Scope.JOBS_WRITE)
@router.post("/v1/audio/translations")
async def create_translation(
    request: Request,
    resources: Provided,
    loader: snapshots.Provided,
    metrics: Metrics,
    tenant: Tenant,
) -> Response:
    """Put a file's speech into English."""
    return await _serve(TRANSLATION, "translate", request, resources, loader, metrics, tenant)


async def _serve(
    operation: Operation,
    task: Task,
    request: Request,
    resources: Resources,
    loader: snapshots.Snapshots,
    metrics: CallMetrics,
    tenant: str,
) -> Response:
    fields = AudioForm(operation, task, _known_models(resources))
    form = form_of(request, resources, tenant, fields)
    async with AsyncExitStack() as stack:
        stack.enter_context(counted(metrics))
        call = await stack.enter_async_context(called(request, resources, tenant, form))
        if fields.wish.stream:
            told = TextStream(call, resources, loader, metrics, fields.wish)
            return await told.begin(request, stack)
        snapshot = await end_of(call, request, resources, loader)
        if not snapshot.view.ended:
            raise JobUnfinished("the server stops; send the file again: its job goes on")
        answered = await transcript_of(
            call, snapshot, resources, metrics, words=needs_words(fields.wish)
        )
        return await to_thread.run_sync(answer, answered.transcript, fields.wish, task)


@needs(Scope.JOBS_READ)
@router.get("/v1/models")
def list_models(resources: Provided) -> dict[str, object]:
    """List the models that are served, and the operator's aliases."""
    served = find_served(resources.engine, resources.settings)
    ours = [model.id for model in resources.catalogue.visible if model.id in served]
    aliases = [name for name in resources.settings.model_alias_map if "*" not in name]
    return {"object": "list", "data": [_model(name) for name in (*ours, *aliases)]}


@needs(Scope.JOBS_READ)
@router.get("/v1/models/{name:path}")
async def show_model(name: str, resources: Provided) -> dict[str, object]:
    """Say that a transcription may name this model."""
    _known_models(resources)(name)
    return _model(name)


def _known_models(resources: Resources) -> partial[str]:
    """Return what knows the names of models."""
    return partial(
        model_of,
        vendor=MODELS,
        catalogue=resources.catalogue,
        aliases=resources.settings.model_alias_map,
    )


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "longhand"}
