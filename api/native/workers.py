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
    responses=problems({503: "Postgres is away; see Retry-After"}),
)
def show_workers(resources: Provided, tenant: Tenant) -> WorkerList:
    """List the living workers and the steps that they are at; of others' jobs only how many."""
    found = busy_workers(resources.engine, tenant, live_s=resources.settings.live_s)
    return WorkerList(
        workers=[WorkerDetail.model_validate(worker, from_attributes=True) for worker in found]
    )
