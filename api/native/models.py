"""The models on offer."""

from contextlib import suppress

from fastapi import APIRouter

from api.native.schemas.service import ModelInfo, ModelList
from api.openapi import problems
from api.resources import Provided, find_served
from shared.infra.errors import RequestError
from shared.models.choice import choose_model, served_supply
from shared.models.options import JobOptions
from shared.store.workers import live_workers, model_states

router = APIRouter(tags=["models"])


@router.get(
    "/models",
    summary="List the models",
    responses=problems(),
)
def show_models(resources: Provided) -> ModelList:
    """List the models that jobs may name, and how far their workers are."""
    settings = resources.settings
    states = model_states(live_workers(resources.engine, live_s=settings.live_s))
    served = find_served(resources.engine, settings)
    supply = served_supply(resources.catalogue, settings.default_model, served)
    default = None
    with suppress(RequestError):  # all models may be hidden
        default = choose_model(JobOptions(), supply).model
    return ModelList(
        models=[
            ModelInfo.of(
                model,
                default=model == default,
                state=states.get(model.id, "absent"),
                on_demand=model.id in settings.on_demand_ids,
            )
            for model in resources.catalogue.visible
        ]
    )
