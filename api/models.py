"""The models on offer."""

from fastapi import APIRouter

from api.openapi import problems
from api.resources import Provided
from api.schemas import ModelInfo, ModelList

router = APIRouter(tags=["models"])


@router.get("/models", responses=problems({}))
async def show_models(resources: Provided) -> ModelList:
    """List the models that jobs may name."""
    default = resources.settings.default_model
    return ModelList(models=[ModelInfo.of(model, default) for model in resources.catalogue.visible])
