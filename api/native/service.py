"""The service, its models and its workers."""

from contextlib import suppress

from fastapi import APIRouter, Request, Response

from api.access.routes import needs, public
from api.native.health import Provided as HealthProvided
from api.native.ids import WorkerId
from api.native.schemas.service import (
    DiarizerInfo,
    ModelInfo,
    ModelList,
    ServiceInfo,
    WorkerInfo,
    WorkerList,
)
from api.negotiation import choose_media_type
from api.openapi import problems
from api.page.files import shell
from api.resources import Provided, Resources, Tenant, find_served
from shared import __version__
from shared.infra.errors import RequestError, WorkerNotDrainable, WorkerNotFound
from shared.models.choice import choose_diarization, choose_model, served_supply
from shared.models.options import JobOptions
from shared.store.accounts.scopes import Scope
from shared.store.counts import backlog_by_model
from shared.store.workers import busy_workers, live_workers, model_states, set_drained

JSON, HTML = "application/json", "text/html"

router = APIRouter()


@public
@router.get("/", summary="See what runs here", tags=["service"], response_model=ServiceInfo)
async def show_service(
    request: Request, response: Response, health: HealthProvided
) -> ServiceInfo | Response:
    """Return what runs here, in which version, and where to find the rest.

    Whoever likes `text/html` better than JSON, as browsers do, gets the page.
    """
    if choose_media_type(request.headers.get("accept", ""), (JSON, HTML)) == HTML:
        return shell(request)
    response.headers["Vary"] = "Accept"
    loaded = await health.glance()
    return ServiceInfo(
        name="Longhand",
        service="Longhand",
        model=None if loaded is None else loaded.default,
        device=None if loaded is None else loaded.default_device,
        language=None if loaded is None else loaded.default_language,
        version=__version__,
        links={
            "documentation": "/docs",
            "openapi": "/openapi.json",
            "jobs": "/jobs",
            "models": "/models",
            "workers": "/workers",
            "webhooks": "/webhooks",
            "status": "/health/status",
            "metrics": "/metrics",
        },
        endpoints={
            "transcribe": "/transcribe",
            "accuracy_stats": "/accuracy/stats",
            "health": "/health",
            "ready": "/ready",
            "metrics": "/metrics",
        },
    )


@needs(Scope.JOBS_READ)
@router.get("/models", summary="List the models", tags=["models"], responses=problems())
def show_models(resources: Provided) -> ModelList:
    """List the models, those that tell speakers apart too, and the states of their workers."""
    settings = resources.settings
    states = model_states(live_workers(resources.engine, live_s=settings.live_s))
    served = find_served(resources.engine, settings)
    supply = served_supply(resources.catalogue, settings.default_model, served)
    default = None
    with suppress(RequestError):  # all models may be hidden
        default = choose_model(JobOptions(), supply).model
    diarizer = None
    with suppress(RequestError):  # none may be served
        diarizer = choose_diarization(JobOptions(speakers=True), resources.catalogue, served)
    return ModelList(
        models=[
            ModelInfo(
                **dict(model),
                detects_language=model.detects_language,
                takes_prompt=model.takes_prompt,
                default=model == default,
                state=states.get(model.id, "absent"),
                on_demand=model.id in settings.on_demand_ids,
            )
            for model in resources.catalogue.visible
        ],
        diarizers=[
            DiarizerInfo(
                **dict(model),
                default=model == diarizer,
                state=states.get(model.id, "absent"),
            )
            for model in resources.catalogue.diarizers.values()
            if model.is_pinned and not model.hidden
        ],
    )


@needs(Scope.JOBS_READ)
@router.get("/workers", summary="List the workers", tags=["workers"], responses=problems())
def show_workers(resources: Provided, tenant: Tenant) -> WorkerList:
    """List the living workers and their current steps; of other tenants' jobs only the number.

    `backlog` has your own jobs that wait or run.
    """
    found = busy_workers(resources.engine, tenant, live_s=resources.settings.live_s)
    backlog = backlog_by_model(resources.engine, tenant)
    flower_url = resources.settings.flower_url or None
    return WorkerList.model_validate(
        {"workers": found, "backlog": backlog, "flower_url": flower_url}, from_attributes=True
    )


@needs(Scope.ADMIN)
@router.post(
    "/workers/{worker_id}/drain",
    summary="Drain a worker",
    tags=["workers"],
    responses=problems(WorkerNotFound, WorkerNotDrainable),
)
def drain_worker(worker_id: WorkerId, resources: Provided) -> WorkerInfo:
    """Have a worker claim nothing more, within a heartbeat (10 s); what it has in hand it finishes.

    It stays up, idle, until it is resumed; one that is started in its place is not drained. Jobs
    whose only workers are drained wait.
    """
    return _set_drained(resources, worker_id, drained=True)


@needs(Scope.ADMIN)
@router.post(
    "/workers/{worker_id}/resume",
    summary="Resume a drained worker",
    tags=["workers"],
    responses=problems(WorkerNotFound, WorkerNotDrainable),
)
def resume_worker(worker_id: WorkerId, resources: Provided) -> WorkerInfo:
    """Have a drained worker claim steps again, within a heartbeat (10 s)."""
    return _set_drained(resources, worker_id, drained=False)


def _set_drained(resources: Resources, worker_id: str, *, drained: bool) -> WorkerInfo:
    live_s = resources.settings.live_s
    found = set_drained(resources.engine, worker_id, drained=drained, live_s=live_s)
    return WorkerInfo.model_validate(found, from_attributes=True)
