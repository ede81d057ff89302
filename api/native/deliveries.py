"""Webhook deliveries: what was sent to whom, and sending it again."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from api.native.ids import parse_id
from api.native.schemas.webhooks import Delivery, DeliveryPage
from api.openapi import problems
from api.resources import Provided, Tenant
from shared.infra.errors import DeliveryNotFound, InvalidRequest
from shared.store.states import DeliveryState
from shared.store.webhooks.attempts import replay
from shared.store.webhooks.deliveries import get_delivery, list_deliveries

router = APIRouter(tags=["webhooks"])

_UNAVAILABLE = "Postgres is away; see Retry-After"


@router.get(
    "/webhooks/deliveries",
    summary="List deliveries",
    responses=problems({422: "A bad filter, limit or cursor", 503: _UNAVAILABLE}),
)
def show_deliveries(
    resources: Provided,
    tenant: Tenant,
    job_id: Annotated[str | None, Query(description="of this job alone")] = None,
    endpoint_id: Annotated[str | None, Query(description="to this webhook alone")] = None,
    state: Annotated[DeliveryState | None, Query(description="in this state alone")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
) -> DeliveryPage:
    """List deliveries with all their attempts, newest first."""
    found = list_deliveries(
        resources.engine,
        tenant,
        limit=limit + 1,
        before=_id(cursor, "the cursor is not one that we gave out"),
        job_id=_id(job_id, "job_id is not the id of a job"),
        endpoint_id=_id(endpoint_id, "endpoint_id is not the id of a webhook"),
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
    responses=problems(
        {
            404: "No such delivery",
            409: "It is pending already, a test, or its webhook is disabled",
            503: _UNAVAILABLE,
        }
    ),
)
def replay_delivery(delivery_id: str, resources: Provided, tenant: Tenant) -> Delivery:
    """Send an event again, with the same `webhook-id` and all attempts anew."""
    found_id = parse_id(delivery_id)
    if found_id is None:
        raise DeliveryNotFound(f"there is no delivery {delivery_id}")
    replay(resources.engine, tenant, found_id)
    return Delivery.of(get_delivery(resources.engine, tenant, found_id))


def _id(text: str | None, otherwise: str) -> UUID | None:
    """Return the id in a parameter.

    Raises:
        InvalidRequest: there is none in it.
    """
    if text is None:
        return None
    found = parse_id(text)
    if found is None:
        raise InvalidRequest(otherwise)
    return found
