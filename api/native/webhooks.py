"""Webhooks: who is told of jobs' ends."""

from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from api.intake.bodies import json_body, read_json
from api.native.ids import parse_id
from api.native.schemas.webhooks import (
    NewWebhook,
    TestResult,
    Webhook,
    WebhookChange,
    WebhookList,
    WebhookWithSecret,
)
from api.openapi import problems
from api.resources import Provided, Resources, Tenant
from shared.infra.errors import WebhookNotFound
from shared.infra.webhooks.send import send
from shared.store.webhooks import deliveries, endpoints
from shared.store.webhooks.endpoints import EndpointView, EventType

router = APIRouter(tags=["webhooks"])

_UNAVAILABLE = "Postgres is away; see Retry-After"
_BODY_PROBLEMS = {
    408: "The sender fell silent",
    415: "The body is not application/json",
    422: "The body is wrong, or its URL is one that nothing is sent to",
}


@router.post(
    "/webhooks",
    summary="Add a webhook",
    status_code=201,
    response_model=WebhookWithSecret,
    openapi_extra=json_body(NewWebhook),
    responses=problems({**_BODY_PROBLEMS, 409: "There are too many", 503: _UNAVAILABLE}),
)
async def add_webhook(
    request: Request, response: Response, resources: Provided, tenant: Tenant
) -> WebhookWithSecret:
    """Have a URL told of jobs' ends. The answer's secret is not shown again."""
    new = await read_json(request, NewWebhook)
    resources.outbound.check_url(new.url)

    def add() -> tuple[EndpointView, str]:
        return endpoints.add_endpoint(
            resources.engine,
            tenant,
            url=new.url,
            description=new.description,
            events=[EventType(event) for event in new.events],
        )

    view, secret = await to_thread.run_sync(add)
    response.headers["Location"] = f"/webhooks/{view.id}"
    return WebhookWithSecret.with_secret(view, secret)


@router.get("/webhooks", summary="List webhooks", responses=problems({503: _UNAVAILABLE}))
def show_webhooks(resources: Provided, tenant: Tenant) -> WebhookList:
    """List all webhooks, but not those that jobs named for themselves."""
    found = endpoints.list_endpoints(resources.engine, tenant)
    return WebhookList(webhooks=[Webhook.of(view) for view in found])


@router.get(
    "/webhooks/{webhook_id}",
    summary="Get a webhook",
    responses=problems({404: "No such webhook", 503: _UNAVAILABLE}),
)
def show_webhook(webhook_id: str, resources: Provided, tenant: Tenant) -> Webhook:
    """Show a webhook."""
    return Webhook.of(endpoints.get_endpoint(resources.engine, tenant, _existing_id(webhook_id)))


@router.patch(
    "/webhooks/{webhook_id}",
    summary="Change a webhook",
    response_model=Webhook,
    openapi_extra=json_body(WebhookChange),
    responses=problems({**_BODY_PROBLEMS, 404: "No such webhook", 503: _UNAVAILABLE}),
)
async def change_webhook(
    webhook_id: str, request: Request, resources: Provided, tenant: Tenant
) -> Webhook:
    """Change what the body names. To enable a webhook forgets its failures."""
    found_id = _existing_id(webhook_id)
    change = await read_json(request, WebhookChange)
    if change.url is not None:
        resources.outbound.check_url(change.url)

    def apply() -> EndpointView:
        return endpoints.change_endpoint(
            resources.engine,
            tenant,
            found_id,
            url=change.url,
            description=change.description,
            events=None if change.events is None else [EventType(e) for e in change.events],
            enabled=change.enabled,
        )

    return Webhook.of(await to_thread.run_sync(apply))


@router.delete(
    "/webhooks/{webhook_id}",
    summary="Remove a webhook",
    status_code=204,
    responses=problems({404: "No such webhook", 503: _UNAVAILABLE}),
)
def remove_webhook(webhook_id: str, resources: Provided, tenant: Tenant) -> None:
    """Remove a webhook and its deliveries; what is pending is not sent."""
    endpoints.delete_endpoint(resources.engine, tenant, _existing_id(webhook_id))


@router.post(
    "/webhooks/{webhook_id}/rotate",
    summary="Replace a webhook's secret",
    responses=problems({404: "No such webhook", 503: _UNAVAILABLE}),
)
def rotate_secret(webhook_id: str, resources: Provided, tenant: Tenant) -> WebhookWithSecret:
    """Replace the secret. For 24 hours the one before it signs too."""
    view, secret = endpoints.rotate_secret(resources.engine, tenant, _existing_id(webhook_id))
    return WebhookWithSecret.with_secret(view, secret)


@router.post(
    "/webhooks/{webhook_id}/test",
    summary="Send a test event",
    responses=problems({404: "No such webhook", 503: _UNAVAILABLE}),
)
async def test_webhook(webhook_id: str, resources: Provided, tenant: Tenant) -> TestResult:
    """Send a `webhook.test` event, once and at once, and tell how it fared."""
    # In threads of their own: a receiver that hangs holds up nothing but other tests.
    return await to_thread.run_sync(
        _send_test, resources, tenant, _existing_id(webhook_id), limiter=resources.test_threads
    )


def _send_test(resources: Resources, tenant: str, webhook_id: UUID) -> TestResult:
    outgoing = deliveries.make_test(resources.engine, tenant, webhook_id)
    attempt = send(resources.outbound, outgoing)
    return TestResult(
        delivery_id=deliveries.record_test(resources.engine, tenant, webhook_id, outgoing, attempt),
        delivered=attempt.is_delivered,
        status_code=attempt.status_code,
        latency_ms=attempt.latency_ms,
        error=attempt.error,
    )


def _existing_id(text: str) -> UUID:
    """Return the id in ``text``; a text that is none names no webhook.

    Raises:
        WebhookNotFound: it is none.
    """
    found = parse_id(text)
    if found is None:
        raise WebhookNotFound(f"there is no webhook {text}")
    return found
