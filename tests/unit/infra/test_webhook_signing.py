"""Secrets and signatures, held against the specification's library."""

import base64
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from shared.infra.errors import InvalidRequest
from shared.infra.webhooks.signature import check_secret, new_secret, sign

BODY = '{"type":"job.succeeded","data":{"name":"Ä"}}'.encode()


def headers(*secrets: str, body: bytes = BODY) -> dict[str, str]:
    now = int(time.time())
    return {
        "webhook-id": "event-1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign(secrets, "event-1", now, body),
    }


def test_a_signature_is_the_one_of_the_specifications_library() -> None:
    secret = new_secret()
    Webhook(secret).verify(BODY, headers(secret))
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers(secret))
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY, headers(secret, body=BODY + b" "))


def test_each_of_two_secrets_verifies() -> None:
    old, new = new_secret(), new_secret()
    for secret in (old, new):
        Webhook(secret).verify(BODY, headers(new, old))


def test_a_new_secret_is_of_a_good_length_and_of_its_own() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        check_secret(secret)
        assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32


def secret_of(n_bytes: int) -> str:
    return "whsec_" + base64.b64encode(bytes(n_bytes)).decode()


@pytest.mark.parametrize("n_bytes", [24, 25, 26, 64])
def test_a_secret_within_the_bounds_is_taken(n_bytes: int) -> None:
    check_secret(secret_of(n_bytes))


@pytest.mark.parametrize(
    "secret",
    [
        *("", "whsec_", "hush", "whsec_é", secret_of(23), secret_of(65)),
        *(secret_of(32).removeprefix("whsec_"), secret_of(32) + "\n", secret_of(25).rstrip("=")),
        secret_of(32).replace("A", "-"),
    ],
)
def test_a_secret_out_of_bounds_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_secret(secret)
    assert str(refused.value) == "a webhook secret is 'whsec_' and the base64 of 24 to 64 bytes"
