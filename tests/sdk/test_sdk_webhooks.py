"""Webhook events in the SDK: what is accepted and refused, as by the library of the standard."""

import base64
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from longhand_sdk import Longhand, SignatureError
from longhand_sdk.models import WebhookWithSecret
from longhand_sdk.webhooks import TOLERANCE_S, unwrap
from standardwebhooks import Webhook

from shared.infra.webhooks.signature import new_secret, sign

BODY = json.dumps(
    {
        "type": "job.succeeded",
        "timestamp": "2026-11-21T08:34:46.774554+00:00",
        "data": {"job_id": "one", "metadata": {"order": 17}},
    }
).encode()
SECRET, OLD = new_secret(), new_secret()


@dataclass(frozen=True)
class Sent:
    """A request as the server sends it."""

    headers: Mapping[str, str]
    body: bytes = BODY
    secret: str = SECRET
    """With which it is verified."""

    def without(self, name: str) -> "Sent":
        return replace(self, headers={k: v for k, v in self.headers.items() if k != name})

    def having(self, **headers: str) -> "Sent":
        named = {f"webhook-{name}": value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **named})


def sent(*secrets: str, late_s: float = 0.0) -> Sent:
    stamp = int(time.time() - late_s)
    signature = sign(secrets or (SECRET,), "event-1", stamp, BODY)
    named = {"id": "event-1", "timestamp": str(stamp), "signature": signature}
    return Sent({f"webhook-{name}": value for name, value in named.items()})


CASES: Mapping[str, tuple[bool, Callable[[], Sent]]] = {
    "as it was sent": (True, sent),
    "header names in capitals": (
        True,
        lambda: replace(sent(), headers={k.title(): v for k, v in sent().headers.items()}),
    ),
    "rotated, with the new secret": (True, lambda: sent(SECRET, OLD)),
    "rotated, with the old secret": (True, lambda: replace(sent(SECRET, OLD), secret=OLD)),
    "a time of digits without end": (False, lambda: sent().having(timestamp="9" * 400)),
    "a little late": (True, lambda: sent(late_s=TOLERANCE_S - 30)),
    "signatures of other versions beside it": (
        True,
        lambda: sent().having(signature="v1a,AAAA " + sent().headers["webhook-signature"]),
    ),
    "another body": (False, lambda: replace(sent(), body=BODY.replace(b"17", b"18"))),
    "another id": (False, lambda: sent().having(id="event-2")),
    "another secret": (False, lambda: replace(sent(), secret=OLD)),
    "another secret's signature": (False, lambda: sent(OLD)),
    "stale": (False, lambda: sent(late_s=TOLERANCE_S + 30)),
    "from the future": (False, lambda: sent(late_s=-TOLERANCE_S - 30)),
    "a stale event with a new time": (
        False,
        lambda: sent(late_s=3600).having(timestamp=str(int(time.time()))),
    ),
    "no time": (False, lambda: sent().having(timestamp="now")),
    "no id": (False, lambda: sent().without("webhook-id")),
    "no timestamp": (False, lambda: sent().without("webhook-timestamp")),
    "no signature": (False, lambda: sent().without("webhook-signature")),
    "an empty signature": (False, lambda: sent().having(signature="v1,")),
    "another version's signature": (
        False,
        lambda: sent().having(signature=sent().headers["webhook-signature"].replace("v1", "v2")),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_event_is_taken_or_refused_as_by_standardwebhooks(case: str) -> None:
    good, make = CASES[case]
    request = make()

    def theirs() -> bool:
        try:
            Webhook(request.secret).verify(request.body, dict(request.headers))
        except Exception:  # noqa: BLE001 - of malformed signatures it raises anything
            return False
        return True

    assert theirs() is good
    if not good:
        with pytest.raises(SignatureError):
            unwrap(request.body, request.headers, request.secret)
        return
    event = unwrap(request.body, request.headers, request.secret)
    assert (event.id, event.type, event.data["metadata"]) == (
        "event-1",
        "job.succeeded",
        {"order": 17},
    )
    assert unwrap(request.body.decode(), request.headers, request.secret) == event


def test_a_body_whose_bytes_are_no_text_is_refused() -> None:
    with pytest.raises(SignatureError):
        unwrap(os.urandom(32), sent().headers, SECRET)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!", "whsec_" + "A"])
def test_what_is_no_secret_is_a_mistake_of_the_caller(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        unwrap(BODY, sent().headers, secret)


def test_a_client_verifies_without_a_server() -> None:
    event = Longhand("http://127.0.0.1:1").webhooks.unwrap(BODY, sent().headers, SECRET)
    assert event.timestamp.tzinfo is not None
    assert base64.b64decode(SECRET.removeprefix("whsec_"))


def test_a_secret_is_not_in_what_is_logged() -> None:
    made = WebhookWithSecret(
        id="one", url="https://a", enabled=True, created_at=datetime.now(UTC), secret=SECRET
    )
    assert SECRET not in f"{made!r} {made}"
