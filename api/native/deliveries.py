"""Webhook deliveries: the list, and sending one again."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.native.ids import Cursor, DeliveryId, optional_id
from api.native.schemas.webhooks import Delivery, DeliveryPage
from api.openapi import problems
from api.resources import Provided, Tenant
from shared.infra.errors import DeliveryNotFound, DeliveryNotReplayable, InvalidRequest
from shared.store.states import DeliveryState
from shared.store.webhooks.attempts import replay
from shared.store.webhooks.deliveries import get_delivery, list_deliveries

router = APIRouter(tags=["webhooks"])


@router.get(
    "/webhooks/deliveries",
    summary="List deliveries",
    responses=problems(InvalidRequest),
)
def show_deliveries(
    resources: Provided,
    tenant: Tenant,
    cursor: Cursor,
    job_id: Annotated[str | None, Query(description="of this job alone")] = None,
    endpoint_id: Annotated[str | None, Query(description="to this webhook alone")] = None,
    state: Annotated[DeliveryState | None, Query(description="in this state alone")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> DeliveryPage:
    """List deliveries with all their attempts, newest first."""
    found = list_deliveries(
        resources.engine,
        tenant,
        limit=limit + 1,
        before=cursor,
        job_id=optional_id(job_id, "job_id is not the id of a job"),
        endpoint_id=optional_id(endpoint_id, "endpoint_id is not the id of a webhook"),
        state=state,
    )
    page = found[:limit]
    return DeliveryPage(
        deliveries=[Delivery.of(view) for view in page],
        next_cursor=str(page[-1].id) if len(found) > limit else None,
    )


@router.post(
    "/webhooks/deliveries/{delivery_id}/replay",
    summary="Send an event again",
    status_code=202,
    responses=problems(DeliveryNotFound, DeliveryNotReplayable),
)
def replay_delivery(delivery_id: DeliveryId, resources: Provided, tenant: Tenant) -> Delivery:
    """Send an event again, with the same `webhook-id` and a new series of attempts."""
    replay(resources.engine, tenant, delivery_id)
    return Delivery.of(get_delivery(resources.engine, tenant, delivery_id))
