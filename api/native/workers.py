"""Who works here, and at what."""

from fastapi import APIRouter

from api.native.schemas.service import WorkerDetail, WorkerList
from api.openapi import problems
from api.resources import Provided, Tenant
from shared.store.workers import busy_workers

router = APIRouter(tags=["workers"])


@router.get(
    "/workers",
    summary="List the workers",
    responses=problems(),
)
def show_workers(resources: Provided, tenant: Tenant) -> WorkerList:
    """List the living workers and their current steps; of other tenants' jobs only the number."""
    found = busy_workers(resources.engine, tenant, live_s=resources.settings.live_s)
    return WorkerList(
        workers=[WorkerDetail.model_validate(worker, from_attributes=True) for worker in found]
    )
