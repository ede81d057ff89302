"""Webhook events, verified by Standard Webhooks 1.0."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping

from longhand_sdk.errors import SignatureError
from longhand_sdk.models import WebhookEvent

TOLERANCE_S = 300.0
"""How far an event's time may be from now: older ones may be repeated by somebody else."""


def unwrap(
    body: bytes | str, headers: Mapping[str, str], secret: str, *, now_s: float | None = None
) -> WebhookEvent:
    """Return the event that a request to your webhook carries.

    Args:
        body: the request's body, as it came.
        headers: its headers, in any case.
        secret: the webhook's, ``whsec_...``. The one before a rotation is good for 24 hours.
        now_s: seconds since 1970; None: now.

    Raises:
        SignatureError: it is not signed with the secret, or its time is not about now.
        ValueError: the secret is none.
    """
    given = {name.lower(): value for name, value in headers.items()}
    event_id, stamp, signatures = (
        given.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")
    )
    if not (event_id and stamp and signatures):
        raise SignatureError("the request lacks headers of Standard Webhooks")
    key = _key(secret)
    now_s = time.time() if now_s is None else now_s
    is_time = stamp.isascii() and stamp.isdigit() and len(stamp) < 16  # digits without end fail
    if not is_time or abs(int(stamp) - now_s) > TOLERANCE_S:
        raise SignatureError("the event is not of now: it may have been sent before")
    raw = body.encode() if isinstance(body, str) else body
    digest = hmac.new(key, f"{event_id}.{stamp}.".encode() + raw, hashlib.sha256).digest()
    expected = f"v1,{base64.b64encode(digest).decode()}".encode()
    # A list, so that all are compared.
    equal = [hmac.compare_digest(expected, each.encode()) for each in signatures.split(" ")]
    if not any(equal):
        raise SignatureError("the event is not signed with this secret")
    return WebhookEvent.model_validate({"id": event_id, **json.loads(raw)})


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise ValueError("the secret is not 'whsec_' and base64")
    return key
