"""Receivers that never answer: what they keep from others."""

from contextlib import ExitStack
from uuid import UUID

import pytest
from jobstore import add_job, column
from sqlalchemy import Engine, text
from webhookstore import add_hook, cancel

from api.webhook_tests import HOST_SHARE, TENANT_SHARE, TEST_THREADS, TestPlaces
from shared.infra.errors import TooManyTests
from shared.infra.webhooks.attempt import Attempt
from shared.store import steps
from shared.store.queues import DELIVER_QUEUE, DELIVERY_SLOTS
from shared.store.steps import Claim
from shared.store.webhooks.attempts import PROMPT_MS, complete_attempt

SLOW, SOON = Attempt(None, 15_000.0, "no answer"), Attempt(204, 20.0, None)


def take(database: Engine, n: int) -> list[Claim]:
    """Claim deliveries, up to so many, and leave them to hang."""
    found: list[Claim] = []
    for _ in range(n):
        claims = steps.claim_next(database, DELIVER_QUEUE, owner="test", lease_s=30).claims
        if not claims:
            break
        found += claims
    return found


def end_a_job(database: Engine, tenant: str = "default") -> None:
    cancel(database, add_job(database, tenant=tenant), tenant)


def lane(database: Engine, claimed: Claim) -> UUID:
    return UUID(str(column(database, claimed.step_id, "lane")))


def add_hooks(database: Engine, n: int, host: str, tenant: str = "default") -> list[UUID]:
    return [
        add_hook(database, f"https://{host.format(number)}/{number}", tenant=tenant)[0]
        for number in range(n)
    ]


def set_prompt(database: Engine, endpoint_id: UUID) -> None:
    with database.begin() as connection:
        connection.execute(
            text("UPDATE webhook_endpoints SET prompt = true WHERE id = :id"), {"id": endpoint_id}
        )


def test_a_host_that_hangs_has_a_sixteenth_of_the_slots(database: Engine) -> None:
    add_hooks(database, 20, "slow.example")
    other, _ = add_hook(database, "https://other.example")
    end_a_job(database)
    held = take(database, DELIVERY_SLOTS)
    assert len(held) == DELIVERY_SLOTS // 16 + 1
    assert other in [lane(database, claimed) for claimed in held]


def test_many_hosts_that_hang_leave_slots_to_a_host_that_is_not_waited_for(
    database: Engine,
) -> None:
    for letter in "abc":
        add_hooks(database, 12, f"{letter}.example")
    end_a_job(database)
    assert len(take(database, DELIVERY_SLOTS)) == DELIVERY_SLOTS // 8
    new, _ = add_hook(database, "https://new.example")
    end_a_job(database)
    assert new in [lane(database, claimed) for claimed in take(database, DELIVERY_SLOTS)]


def test_endpoints_that_answered_soon_go_on_whatever_hangs(database: Engine) -> None:
    add_hooks(database, 45, "{}.example")
    prompt, _ = add_hook(database, "https://prompt.example")
    set_prompt(database, prompt)
    end_a_job(database)
    held = take(database, DELIVERY_SLOTS)
    assert lane(database, held[0]) == prompt
    assert len(held) == DELIVERY_SLOTS // 4 + 1
    end_a_job(database)
    assert prompt in [lane(database, claimed) for claimed in take(database, DELIVERY_SLOTS)]


def test_a_tenant_has_half_of_the_slots(database: Engine) -> None:
    for endpoint_id in add_hooks(database, 20, "{}.example"):
        set_prompt(database, endpoint_id)
    for _ in range(4):
        end_a_job(database)
    assert len(take(database, DELIVERY_SLOTS)) == DELIVERY_SLOTS // 2
    other, _ = add_hook(database, "https://other.example", tenant="other")
    end_a_job(database, "other")
    assert [lane(database, claimed) for claimed in take(database, DELIVERY_SLOTS)] == [other]


def test_an_endpoint_is_prompt_while_its_attempts_are_over_soon(database: Engine) -> None:
    endpoint_id, _ = add_hook(database, "https://receiver.example")
    seen = []
    for attempt in (SOON, SLOW, Attempt(500, PROMPT_MS - 1, "no")):
        end_a_job(database)
        (claimed,) = take(database, 1)
        complete_attempt(database, claimed, attempt)
        with database.begin() as connection:
            seen.append(
                connection.execute(
                    text("SELECT prompt FROM webhook_endpoints WHERE id = :id"), {"id": endpoint_id}
                ).scalar_one()
            )
    assert seen == [True, False, True]


def test_tests_that_hang_are_refused_beyond_their_share_and_others_go_on() -> None:
    places = TestPlaces()
    with ExitStack() as hanging:
        for number in range(TENANT_SHARE):
            hanging.enter_context(places.take("one", f"{number // HOST_SHARE}.example"))
            if number == HOST_SHARE - 1:
                with pytest.raises(TooManyTests), places.take("one", "0.example"):
                    pass
        with pytest.raises(TooManyTests), places.take("one", "new.example"):
            pass
        with places.take("two", "0.example"):
            pass
    with places.take("one", "0.example"):
        pass
    assert TENANT_SHARE < TEST_THREADS
