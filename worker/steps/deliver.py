"""The ``deliver`` step: make one attempt to tell a webhook's receiver of a job's end."""

import logging

from shared.infra.webhooks.send import send
from shared.store.webhooks.attempts import complete_attempt
from shared.store.webhooks.deliveries import get_outgoing
from worker import metrics
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime

log = logging.getLogger(__name__)


def deliver(runtime: Runtime, lease: Lease) -> None:
    """Send the event and write down how that went; a later attempt is a claim of its own.

    Raises:
        DeliveryVoid: it is not to be sent any more.
        WorkerStopping: not begun; an attempt under way is brought to its end.
        DatabaseUnavailable: the event may have been sent, and is sent again.
        LeaseLost: somebody else sends it now, or its job was deleted.
    """
    assert runtime.outbound is not None, "only a delivery worker takes this step"
    lease.check()
    outgoing = get_outgoing(runtime.database, lease.claim.input["delivery_id"])
    attempt = send(runtime.outbound, outgoing)
    complete_attempt(runtime.database, lease.claim, attempt)
    outcome = "delivered" if attempt.is_delivered else "failed"
    metrics.WEBHOOK_ATTEMPTS.labels(outcome).inc()
    log.info(
        "event %s: attempt %d: %s",
        outgoing.event_id,
        lease.claim.attempt,
        attempt.error or "delivered",
    )
