"""Webhooks, the URLs that jobs' ends are sent to, and deliveries, what was sent to them."""

from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from api.access.routes import needs
from api.intake.bodies import json_body, read_json
from api.native.ids import UUID_SCHEMA, Cursor, DeliveryId, WebhookId, optional_id
from api.native.schemas import members
from api.native.schemas.webhooks import (
    Delivery,
    DeliveryPage,
    NewWebhook,
    TestResult,
    Webhook,
    WebhookChange,
    WebhookList,
    WebhookWithSecret,
)
from api.openapi import BODY_ERRORS, problems
from api.resources import Provided, Tenant
from shared.infra import errors
from shared.infra.webhooks.send import send
from shared.store.accounts.scopes import Scope
from shared.store.states import DeliveryState
from shared.store.webhooks import attempts, deliveries, endpoints
from shared.store.webhooks.outgoing import make_test

router = APIRouter(tags=["webhooks"])


@needs(Scope.WEBHOOKS)
@router.get("/webhooks/deliveries", summary="List deliveries", responses=problems())
def show_deliveries(
    resources: Provided,
    tenant: Tenant,
    cursor: Cursor,
    job_id: Annotated[str | None, Query(description="of this job alone", **UUID_SCHEMA)] = None,
    endpoint_id: Annotated[
        str | None, Query(description="to this webhook alone", **UUID_SCHEMA)
    ] = None,
    state: Annotated[DeliveryState | None, Query(description="in this state alone")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> DeliveryPage:
    """List deliveries with all their attempts, newest first."""
    found = deliveries.list_deliveries(
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


@needs(Scope.WEBHOOKS)
@router.post(
    "/webhooks/deliveries/{delivery_id}/replay",
    summary="Send an event again",
    status_code=202,
    responses=problems(errors.DeliveryNotFound, errors.DeliveryNotReplayable),
)
def replay_delivery(delivery_id: DeliveryId, resources: Provided, tenant: Tenant) -> Delivery:
    """Send an event again, with the same `webhook-id` and a new series of attempts."""
    attempts.replay(resources.engine, tenant, delivery_id)
    return Delivery.of(deliveries.get_delivery(resources.engine, tenant, delivery_id))


@needs(Scope.WEBHOOKS)
@router.post(
    "/webhooks",
    summary="Add a webhook",
    status_code=201,
    response_model=WebhookWithSecret,
    openapi_extra=json_body(NewWebhook),
    responses=problems(*BODY_ERRORS, errors.ForbiddenUrl, errors.TooManyWebhooks),
)
async def add_webhook(
    request: Request, response: Response, resources: Provided, tenant: Tenant
) -> WebhookWithSecret:
    """Send jobs' ends to a URL. The answer's secret is not shown again."""
    new = await read_json(request, NewWebhook)
    resources.outbound.check_url(new.url)
    add = partial(endpoints.add_endpoint, resources.engine, tenant, **dict(new))
    view, secret = await to_thread.run_sync(add)
    response.headers["Location"] = f"/webhooks/{view.id}"
    return WebhookWithSecret(**members(view), secret=secret)


@needs(Scope.WEBHOOKS)
@router.get("/webhooks", summary="List webhooks", responses=problems())
def show_webhooks(resources: Provided, tenant: Tenant) -> WebhookList:
    """List all webhooks, but not those that jobs named for themselves."""
    found = endpoints.list_endpoints(resources.engine, tenant)
    return WebhookList.model_validate({"webhooks": found}, from_attributes=True)


@needs(Scope.WEBHOOKS)
@router.get(
    "/webhooks/{webhook_id}", summary="Get a webhook", responses=problems(errors.WebhookNotFound)
)
def show_webhook(webhook_id: WebhookId, resources: Provided, tenant: Tenant) -> Webhook:
    """Show a webhook."""
    return Webhook(**members(endpoints.get_endpoint(resources.engine, tenant, webhook_id)))


@needs(Scope.WEBHOOKS)
@router.patch(
    "/webhooks/{webhook_id}",
    summary="Change a webhook",
    response_model=Webhook,
    openapi_extra=json_body(WebhookChange),
    responses=problems(*BODY_ERRORS, errors.ForbiddenUrl, errors.WebhookNotFound),
)
async def change_webhook(
    webhook_id: WebhookId, request: Request, resources: Provided, tenant: Tenant
) -> Webhook:
    """Change what the body names. Enabling a webhook clears its failures."""
    change = await read_json(request, WebhookChange)
    if change.url is not None:
        resources.outbound.check_url(change.url)
    apply = partial(endpoints.change_endpoint, resources.engine, tenant, webhook_id, **dict(change))
    return Webhook(**members(await to_thread.run_sync(apply)))


@needs(Scope.WEBHOOKS)
@router.delete(
    "/webhooks/{webhook_id}",
    summary="Remove a webhook",
    status_code=204,
    responses=problems(errors.WebhookNotFound),
)
def remove_webhook(webhook_id: WebhookId, resources: Provided, tenant: Tenant) -> None:
    """Remove a webhook and its deliveries; what is pending is not sent."""
    endpoints.delete_endpoint(resources.engine, tenant, webhook_id)


@needs(Scope.WEBHOOKS)
@router.post(
    "/webhooks/{webhook_id}/rotate",
    summary="Replace a webhook's secret",
    responses=problems(errors.WebhookNotFound),
)
def rotate_secret(webhook_id: WebhookId, resources: Provided, tenant: Tenant) -> WebhookWithSecret:
    """Replace the secret. The old one signs too for 24 hours."""
    view, secret = endpoints.rotate_secret(resources.engine, tenant, webhook_id)
    return WebhookWithSecret(**members(view), secret=secret)


@needs(Scope.WEBHOOKS)
@router.post(
    "/webhooks/{webhook_id}/test",
    summary="Send a test event",
    responses=problems(errors.WebhookNotFound, errors.TooManyTests),
)
async def test_webhook(webhook_id: WebhookId, resources: Provided, tenant: Tenant) -> TestResult:
    """Send a `webhook.test` event, once and at once, and return how the attempt went."""
    engine = resources.engine
    outgoing = await to_thread.run_sync(make_test, engine, tenant, webhook_id)
    with resources.test_places.take(tenant, endpoints.host_of(outgoing.url)):
        attempt = await to_thread.run_sync(
            send, resources.outbound, outgoing, limiter=resources.test_threads
        )
    delivery_id = await to_thread.run_sync(
        deliveries.record_test, engine, tenant, webhook_id, outgoing, attempt
    )
    return TestResult(
        delivery_id=delivery_id,
        delivered=attempt.is_delivered,
        status_code=attempt.status_code,
        latency_ms=attempt.latency_ms,
        error=attempt.error,
    )
