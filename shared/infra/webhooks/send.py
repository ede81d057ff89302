"""Sending a webhook event."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from shared import __version__
from shared.infra.errors import ForbiddenUrl, OutboundFailed
from shared.infra.outbound import Outbound
from shared.infra.tracing import current
from shared.infra.webhooks.attempt import TIMEOUT_S, Attempt, Outgoing


def send(outbound: Outbound, outgoing: Outgoing) -> Attempt:
    """Send an event and return how it went, errors included."""
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(outgoing.n_bytes),
        "User-Agent": f"Longhand/{__version__}",
        **outgoing.headers,
    }
    if traceparent := current().traceparent:
        headers["traceparent"] = traceparent
    began = time.monotonic()
    try:
        answer = outbound.send(
            outgoing.method,
            outgoing.url,
            body=outgoing.body,
            headers=headers,
            timeout_s=TIMEOUT_S,
        )
    except (ForbiddenUrl, OutboundFailed) as error:
        return Attempt(None, _ms_since(began), str(error))
    latency_ms = _ms_since(began)
    status = answer.status_code
    if 200 <= status < 300:
        return Attempt(status, latency_ms, None)
    why = ": redirects are not followed" if 300 <= status < 400 else ""
    reason = f"the receiver answered {status}{why}"
    return Attempt(status, latency_ms, reason, _retry_after_s(answer.headers))


def _ms_since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 1)


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Return the seconds of a ``Retry-After`` header, a number or a date (RFC 9110)."""
    value = headers.get("retry-after", "").strip()
    try:
        if value.isascii() and value.isdigit():
            return float(value)
        until = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
