"""The models on offer."""

from fastapi import APIRouter

from api.openapi import problems
from api.resources import Provided
from api.schemas.service import ModelInfo, ModelList
from shared.workers import live_workers, model_states

router = APIRouter(tags=["models"])


@router.get(
    "/models",
    summary="List the models",
    responses=problems({503: "Postgres is away; see Retry-After"}),
)
def show_models(resources: Provided) -> ModelList:
    """List the models that jobs may name, and how far their workers are."""
    settings = resources.settings
    states = model_states(live_workers(resources.engine, live_s=settings.lease_s))
    return ModelList(
        models=[
            ModelInfo.of(
                model,
                default=model.id == settings.default_model,
                state=states.get(model.id, "absent"),
            )
            for model in resources.catalogue.visible
        ]
    )
