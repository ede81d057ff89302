"""One attempt: what is sent to a real receiver, and what is made of its answer."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from harness.jobs.webhook_store import SECRET, loopback
from harness.peers.receivers import Receiver, Reply, receiving
from shared.infra.webhooks.attempt import (
    JITTER,
    LONGEST_RETRY_AFTER_S,
    RETRY_DELAYS_S,
    Attempt,
    next_attempt_s,
)
from shared.infra.webhooks.send import send
from shared.infra.webhooks.signature import signed

BODY = '{"type":"job.failed","data":{"name":"Ä"}}'


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


def send_to(receiver: Receiver, reply: Reply) -> Attempt:
    receiver.reply(reply)
    outgoing = signed(receiver.url, [SECRET], "event-1", int(time.time()), BODY)
    return send(loopback(), outgoing)


def test_what_is_sent_is_signed_and_arrives_to_the_byte(receiver: Receiver) -> None:
    assert send_to(receiver, Reply()).is_delivered
    request = receiver.requests[-1]
    assert request.verify(SECRET)["data"] == {"name": "Ä"}
    assert (request.id, request.body.decode()) == ("event-1", BODY)
    assert request.headers["user-agent"].startswith("Longhand/")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_a_success(receiver: Receiver, status: int) -> None:
    attempt = send_to(receiver, Reply(status))
    assert (attempt.status_code, attempt.error) == (status, None)


@pytest.mark.parametrize("status", [300, 301, 302, 304, 307, 400, 401, 404, 410, 429, 500, 503])
def test_anything_else_is_a_failure(receiver: Receiver, status: int) -> None:
    attempt = send_to(receiver, Reply(status, {"Location": receiver.url}, b""))
    assert not attempt.is_delivered
    assert str(status) in str(attempt.error)
    assert attempt.is_gone == (status == 410)


def test_retry_after_may_be_seconds_or_a_date(receiver: Receiver) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert send_to(receiver, Reply(503, {"Retry-After": "120"})).retry_after_s == 120
    assert 3500 < send_to(receiver, Reply(503, {"Retry-After": at})).retry_after_s <= 3600


@pytest.mark.parametrize(
    "value",
    ["0", "-5", "soon", "", "1e3", "Thu, 32 Foo 20x", "Fri, 01 Jan 1999 00:00:00 GMT", "\xb2"],
)
def test_a_retry_after_that_says_nothing_asks_for_nothing(receiver: Receiver, value: str) -> None:
    assert send_to(receiver, Reply(503, {"Retry-After": value})).retry_after_s == 0


@pytest.mark.parametrize("value", ["9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_retry_after_is_bounded(receiver: Receiver, value: str) -> None:
    attempt = send_to(receiver, Reply(503, {"Retry-After": value}))
    least_s, most_s = next_attempt_s(1, attempt.retry_after_s)
    assert least_s == LONGEST_RETRY_AFTER_S
    assert most_s == pytest.approx(LONGEST_RETRY_AFTER_S * (1 + JITTER))


def test_retry_after_lengthens_a_delay_and_does_not_shorten_it() -> None:
    assert next_attempt_s(1, 60) == pytest.approx((60, 60 * (1 + JITTER)))
    for number, delay_s in enumerate(RETRY_DELAYS_S, start=1):
        expected = (delay_s * (1 - JITTER), delay_s * (1 + JITTER))
        assert next_attempt_s(number, 0) == pytest.approx(expected)
        assert next_attempt_s(number, delay_s / 2) == pytest.approx(expected)
