"""Webhook deliveries: the outcome of an attempt, and replays.

Rows are locked in the order job, step, endpoint, delivery.
"""

from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.infra.errors import DeliveryNotFound, DeliveryNotReplayable
from shared.infra.webhooks.attempt import Attempt, next_attempt_s
from shared.store.jobs.end import insert_deliver_steps
from shared.store.steps.claims import Claim, fenced, record_step
from shared.store.steps.completion import finish_step
from shared.store.steps.unfinished import fail_step, requeue
from shared.store.webhooks.deliveries import add_attempt
from shared.store.webhooks.endpoints import disable

PROMPT_MS = 2_000.0
"""An attempt that takes longer has its endpoint lose its priority."""

FAILING_DAYS = 5
"""An endpoint whose attempts have all failed for so long is disabled."""


def complete_attempt(engine: Engine, claim: Claim, attempt: Attempt) -> None:
    """``deliver`` running -> done, or -> queued for the next attempt, or -> failed after the last.

    The endpoint is disabled if its receiver is gone (410) or all attempts of ``FAILING_DAYS`` have
    failed; its pending deliveries fail then.
    """
    delivery_id: str = claim.input["delivery_id"]
    with fenced(engine, claim) as connection:
        endpoint_id = _lock_endpoint(connection, delivery_id)
        if endpoint_id is None:
            fail_step(connection, claim, "delivery_void", "the webhook was deleted")
            return
        add_attempt(connection, delivery_id, attempt)
        _note_latency(connection, endpoint_id, attempt)
        if attempt.error is None:
            _succeed(connection, delivery_id, endpoint_id)
            finish_step(connection, claim, {})
            return
        if _is_given_up(connection, endpoint_id, attempt):
            fail_step(connection, claim, "delivery_failed", attempt.error)
        elif claim.attempt >= claim.max_attempts:
            detail = f"{attempt.error} (after {claim.attempt} attempts)"
            fail_step(connection, claim, "delivery_failed", detail)
        else:
            least_s, most_s = next_attempt_s(claim.attempt, attempt.retry_after_s)
            requeue(connection, claim, least_s=least_s, most_s=most_s)
            record_step(connection, claim, "step.retried", attempt.error)


def replay(engine: Engine, tenant: str, delivery_id: UUID) -> None:
    """Delivery delivered or failed -> pending, with a ``deliver`` step and all its attempts.

    Raises:
        DeliveryNotFound: there is none of that id, or it is another tenant's.
        DeliveryNotReplayable: it is pending, a test, or its webhook is disabled.
    """
    with begin(engine, tenant) as connection:
        found = connection.execute(
            text("""
                SELECT webhook_events.job_id, endpoint_id
                FROM webhook_deliveries JOIN webhook_events ON webhook_events.id = event_id
                WHERE webhook_deliveries.id = :id AND webhook_deliveries.tenant = :tenant
            """),
            {"id": delivery_id, "tenant": tenant},
        ).one_or_none()
        if found is None:
            raise DeliveryNotFound(f"there is no delivery {delivery_id}")
        if found.job_id is None:
            raise DeliveryNotReplayable("a test is not sent again: make another one")
        connection.execute(
            text("SELECT FROM jobs WHERE id = :id FOR NO KEY UPDATE"), {"id": found.job_id}
        )
        enabled = connection.execute(
            text("SELECT enabled FROM webhook_endpoints WHERE id = :id FOR NO KEY UPDATE"),
            {"id": found.endpoint_id},
        ).scalar_one_or_none()
        reset = connection.execute(
            text("""
                UPDATE webhook_deliveries
                SET state = 'pending', error = NULL, finished_at = NULL
                WHERE id = :id AND state <> 'pending' RETURNING id
            """),
            {"id": delivery_id},
        ).one_or_none()
        if enabled is None:
            raise DeliveryNotFound(f"there is no delivery {delivery_id}")
        if not enabled:
            raise DeliveryNotReplayable("the webhook is disabled")
        if reset is None:
            raise DeliveryNotReplayable("the delivery is pending")
        # If the webhook was disabled, an old step is left, which must make no more attempts.
        connection.execute(
            text("""
                UPDATE steps SET state = 'void', lease_until = NULL
                WHERE job_id = :job_id AND kind = 'deliver' AND state IN ('queued', 'running')
                  AND input ->> 'delivery_id' = :delivery_id
            """),
            {"job_id": found.job_id, "delivery_id": str(delivery_id)},
        )
        insert_deliver_steps(connection, found.job_id, [(delivery_id, found.endpoint_id)])


def _lock_endpoint(connection: Connection, delivery_id: str) -> UUID | None:
    """Lock and return the endpoint of a delivery; None if it was deleted."""
    return connection.execute(
        text("""
            SELECT endpoint_id
            FROM webhook_deliveries JOIN webhook_endpoints ON webhook_endpoints.id = endpoint_id
            WHERE webhook_deliveries.id = :id
            FOR NO KEY UPDATE OF webhook_endpoints
        """),
        {"id": delivery_id},
    ).scalar_one_or_none()


def _note_latency(connection: Connection, endpoint_id: UUID, attempt: Attempt) -> None:
    """Endpoint prompt <-> not prompt, which decides how many slots its tenant has for it."""
    connection.execute(
        text("UPDATE webhook_endpoints SET prompt = :prompt WHERE id = :id AND prompt <> :prompt"),
        {"id": endpoint_id, "prompt": attempt.latency_ms < PROMPT_MS},
    )


def _succeed(connection: Connection, delivery_id: str, endpoint_id: UUID) -> None:
    """Delivery pending -> delivered; the endpoint is healthy."""
    connection.execute(
        text("""
            UPDATE webhook_deliveries
            SET state = 'delivered', error = NULL, finished_at = clock_timestamp() WHERE id = :id
        """),
        {"id": delivery_id},
    )
    connection.execute(
        text("""
            UPDATE webhook_endpoints SET failing_since = NULL
            WHERE id = :id AND failing_since IS NOT NULL
        """),
        {"id": endpoint_id},
    )


def _is_given_up(connection: Connection, endpoint_id: UUID, attempt: Attempt) -> bool:
    """Note a failed attempt; disable the endpoint when it is due; return whether it is disabled."""
    endpoint = connection.execute(
        text("""
            UPDATE webhook_endpoints SET failing_since = coalesce(failing_since, clock_timestamp())
            WHERE id = :id
            RETURNING enabled, failing_since < clock_timestamp() - make_interval(days => :days)
                AS is_dead
        """),
        {"id": endpoint_id, "days": FAILING_DAYS},
    ).one()
    if endpoint.enabled and attempt.is_gone:
        disable(connection, endpoint_id, "the receiver answered 410: it is gone")
    elif endpoint.enabled and endpoint.is_dead:
        reason = f"nothing could be delivered to it for {FAILING_DAYS} days"
        disable(connection, endpoint_id, reason)
    return attempt.is_gone or endpoint.is_dead or not endpoint.enabled
