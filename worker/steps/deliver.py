"""The ``deliver`` step: one attempt to send a webhook event."""

import logging
from urllib.parse import urlsplit

from shared.infra.errors import OutboundFailed
from shared.infra.tracing import current
from shared.infra.webhooks.send import send
from shared.store.webhooks.attempts import complete_attempt
from shared.store.webhooks.outgoing import get_outgoing
from worker import metrics
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime

log = logging.getLogger(__name__)


def deliver(runtime: Runtime, lease: Lease) -> OutboundFailed | None:
    """Send the event and store how the attempt went; return its error, if it has one.

    Each further attempt is a claim of its own.

    Raises:
        DeliveryVoid: the webhook is disabled or deleted, or what it is told is deleted.
        WorkerStopping: the attempt has not begun; one under way is finished.
        DatabaseUnavailable: the event may have been sent, and is sent again.
        LeaseLost: another worker sends it now, or its job was deleted.
    """
    lease.check()
    delivery_id = lease.claim.input["delivery_id"]
    outgoing = get_outgoing(runtime.database, runtime.catalogue, delivery_id)
    attempt = send(runtime.outbound, outgoing)
    current().set(
        {
            "http.request.method": outgoing.method,
            "http.response.status_code": attempt.status_code,
            "server.address": urlsplit(outgoing.url).hostname,
            "longhand.webhook.event": outgoing.event_id,
        }
    )
    complete_attempt(runtime.database, lease.claim, attempt)
    metrics.WEBHOOK_ATTEMPTS.labels("delivered" if attempt.is_delivered else "failed").inc()
    outcome = attempt.error or "delivered"
    log.info("event %s: attempt %d: %s", outgoing.event_id, lease.claim.attempt, outcome)
    return None if attempt.error is None else OutboundFailed(attempt.error)
