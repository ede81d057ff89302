"""Secrets and signatures of webhooks, by Standard Webhooks 1.0 (symmetric, ``v1``)."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

from shared.infra.errors import InvalidRequest
from shared.infra.webhooks.attempt import Outgoing

_PREFIX = "whsec_"
_MIN_BYTES = 24
_MAX_BYTES = 64
"""The specification's bounds."""
_NEW_BYTES = 32
"""The size of SHA-256's output: a longer key adds no strength."""


_QUANTUM = "(?:[A-Za-z0-9+/]{4})"
SECRET_PATTERN = (
    f"^{_PREFIX}(?:{_QUANTUM}{{8,20}}(?:[A-Za-z0-9+/]{{2}}==|[A-Za-z0-9+/]{{3}}=)?"
    f"|{_QUANTUM}{{21}}(?:[A-Za-z0-9+/]{{2}}==)?)$"
)
"""Regular expression of secrets, for the OpenAPI document."""


def new_secret() -> str:
    """Return a random secret: ``whsec_`` and base64."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_NEW_BYTES)).decode()


def check_secret(secret: str) -> None:
    """Check a secret.

    Raises:
        InvalidRequest: it is not ``whsec_`` and the base64 of 24 to 64 bytes.
    """
    try:
        key = _key(secret)
    except ValueError:
        key = b""
    if not secret.startswith(_PREFIX) or not _MIN_BYTES <= len(key) <= _MAX_BYTES:
        raise InvalidRequest(
            f"a webhook secret is '{_PREFIX}' and the base64 of {_MIN_BYTES} to {_MAX_BYTES} bytes"
        )


def sign(keys: Iterable[str], event_id: str, timestamp: int, body: bytes) -> str:
    """Return the ``webhook-signature`` header: one signature for each secret.

    Args:
        keys: the secrets; two while an old one is being replaced.
        event_id: the ``webhook-id`` header.
        timestamp: the ``webhook-timestamp`` header, in seconds since 1970.
        body: the exact bytes that are sent.
    """
    signed = f"{event_id}.{timestamp}.".encode() + body
    digests = (hmac.new(_key(secret), signed, hashlib.sha256).digest() for secret in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def signed(url: str, keys: Iterable[str], event_id: str, timestamp: int, body: str) -> Outgoing:
    """Return an event that is sent with its signature; ``timestamp`` as in ``sign``."""
    encoded = body.encode()
    headers = {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(keys, event_id, timestamp, encoded),
    }
    return Outgoing(url, event_id, headers, (encoded,), len(encoded))


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
