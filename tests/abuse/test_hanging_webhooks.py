"""Receivers that never answer: what they keep from others."""

import logging
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from sqlalchemy import Engine, text

from api.webhook_tests import HOST_SHARE, TENANT_SHARE, TEST_THREADS, TestPlaces
from harness.jobs.job_store import add_job, column
from harness.jobs.webhook_store import SECRET, add_hook, cancel, create, on_loopback
from harness.peers.receivers import Reply, receiving
from harness.programs.workers import fleet, wait_until
from shared.infra.errors import TooManyTests
from shared.infra.settings import Settings
from shared.infra.webhooks.attempt import Attempt
from shared.store import steps
from shared.store.queues import DELIVER_QUEUE, DELIVERY_SLOTS
from shared.store.steps import Claim
from shared.store.webhooks.attempts import PROMPT_MS, complete_attempt
from shared.store.webhooks.endpoints import JobWebhook
from shared.store.workers import WorkerEntry, announce

log = logging.getLogger(__name__)

SLOTS = 128
SLOW, SOON = Attempt(None, 15_000.0, "no answer"), Attempt(204, 20.0, None)


@pytest.fixture
def worker(database: Engine) -> None:
    """Have a delivery worker with ``SLOTS`` slots in the registry."""
    entry = WorkerEntry(
        id="deliver@test",
        role="deliver",
        model=None,
        queues=[DELIVER_QUEUE],
        slots=SLOTS,
        state="ready",
        device="cpu",
        dtype=None,
        version="test",
        load_s=None,
        warm_up_s=None,
    )
    announce(database, entry)


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


@pytest.mark.usefixtures("worker")
def test_a_host_that_hangs_has_a_sixteenth_of_the_slots(database: Engine) -> None:
    add_hooks(database, 20, "slow.example")
    other, _ = add_hook(database, "https://other.example")
    end_a_job(database)
    held = take(database, SLOTS)
    assert len(held) == SLOTS // 16 + 1
    assert other in [lane(database, claimed) for claimed in held]


@pytest.mark.usefixtures("worker")
def test_many_hosts_that_hang_leave_slots_to_a_host_that_is_not_waited_for(
    database: Engine,
) -> None:
    for letter in "abc":
        add_hooks(database, 12, f"{letter}.example")
    end_a_job(database)
    assert len(take(database, SLOTS)) == SLOTS // 8
    new, _ = add_hook(database, "https://new.example")
    end_a_job(database)
    assert new in [lane(database, claimed) for claimed in take(database, SLOTS)]


@pytest.mark.usefixtures("worker")
def test_endpoints_that_answered_soon_go_on_whatever_hangs(database: Engine) -> None:
    add_hooks(database, 45, "{}.example")
    prompt, _ = add_hook(database, "https://prompt.example")
    set_prompt(database, prompt)
    end_a_job(database)
    held = take(database, SLOTS)
    assert lane(database, held[0]) == prompt
    assert len(held) == SLOTS // 4 + 1
    end_a_job(database)
    assert prompt in [lane(database, claimed) for claimed in take(database, SLOTS)]


@pytest.mark.usefixtures("worker")
def test_a_tenant_has_half_of_the_slots(database: Engine) -> None:
    for endpoint_id in add_hooks(database, 20, "{}.example"):
        set_prompt(database, endpoint_id)
    for _ in range(4):
        end_a_job(database)
    assert len(take(database, SLOTS)) == SLOTS // 2
    other, _ = add_hook(database, "https://other.example", tenant="other")
    end_a_job(database, "other")
    assert [lane(database, claimed) for claimed in take(database, SLOTS)] == [other]


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


def end_jobs_with(database: Engine, *urls: str, tenant: str = "default") -> None:
    for url in urls:
        cancel(database, create(database, tenant=tenant, webhook=JobWebhook(url, SECRET)), tenant)


def running(database: Engine) -> int:
    with database.begin() as connection:
        return int(
            connection.execute(
                text("SELECT count(*) FROM steps WHERE kind = 'deliver' AND state = 'running'")
            ).scalar_one()
        )


@pytest.mark.soak
@pytest.mark.parametrize("n", [40, 160])
@pytest.mark.parametrize("n_hosts", [1, 1_000])
def test_others_wait_for_seconds_at_most(
    database: Engine, settings: Settings, tmp_path: Path, n: int, n_hosts: int
) -> None:
    """Logs how long: ``-m soak -o log_cli=true --log-level=INFO`` shows it."""
    waits_s = {}
    with ExitStack() as stack:
        # What connects waits in its backlog, and is never answered.
        listener = socket.create_server(("0.0.0.0", 0), backlog=1_024)
        port = stack.enter_context(listener).getsockname()[1]
        prompt = stack.enter_context(receiving(Reply(204)))
        chosen = on_loopback(settings.model_copy(update={"sweep_s": 0.2}))
        workers = stack.enter_context(fleet(chosen, tmp_path))
        workers.start("beat")
        worker = workers.start("deliver")
        end_jobs_with(database, f"{prompt.url}/known")
        wait_until(lambda: len(prompt.requests) == 1)

        hosts = [
            f"127.1.{1 + each % n_hosts // 250}.{1 + each % n_hosts % 250}" for each in range(n)
        ]
        end_jobs_with(database, *(f"http://{host}:{port}/{i}" for i, host in enumerate(hosts)))
        share = DELIVERY_SLOTS // (16 if n_hosts == 1 else 4)
        # On a busy machine some have given up before all have begun.
        wait_until(lambda: running(database) >= min(n, share) // 2)
        for who, url, tenant in (
            ("another tenant's", f"{prompt.url}/other", "other"),
            ("one that answered before", f"{prompt.url}/known", "default"),
            ("a new one", f"{prompt.url}/new", "default"),
        ):
            n_before, began = len(prompt.requests), time.monotonic()
            end_jobs_with(database, url, tenant=tenant)
            wait_until(lambda n_before=n_before: len(prompt.requests) > n_before)
            waits_s[who] = round(time.monotonic() - began, 2)
        used_mib = psutil.Process(worker.process.pid).memory_info().rss >> 20
    n_hosts = min(n, n_hosts)
    log.info("behind %d receivers on %d hosts: %s; %d MiB", n, n_hosts, waits_s, used_mib)
    assert max(waits_s.values()) < 10
