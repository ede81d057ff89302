"""A tenant that wants everything: what it leaves to another one, of each pool of a process."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Thread
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import Engine
from websockets.exceptions import InvalidStatus

from api.intake.admission import MAX_LARGE, MAX_SMALL
from harness.clients.streams import events_of
from harness.jobs.job_store import add_job
from harness.live.clients import live
from harness.live.hearers import ToneHearer
from harness.programs.workers import wait_until
from harness.servers.api_server import api, assert_problem, part
from shared.infra.settings import Settings
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import ALL_SCOPES
from shared.store.accounts.tenants import create_tenant

STREAMS, CALLS, SESSIONS = 8, 4, 4
ADDRESSES = tuple(f"127.0.0.{number}" for number in range(2, 250))


@dataclass(frozen=True, slots=True)
class Asker:
    """A client with a tenant's key."""

    tenant: str
    key: str
    client: httpx.Client

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def post(self, n_bytes: int, timeout_s: float = 60) -> httpx.Response:
        files = {"file": ("a.wav", uuid4().bytes + bytes(n_bytes))}
        return self.client.post("/jobs", files=files, timeout=timeout_s)

    def begin_upload(self, address: str, n_bytes: int) -> socket.socket:
        """Send the beginning of a file from an address of this machine."""
        port = self.client.base_url.port
        assert port is not None
        connection = socket.create_connection(
            ("127.0.0.1", port), timeout=60, source_address=(address, 0)
        )
        head = (
            f"POST /jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {n_bytes}\r\n\r\n"
        )
        connection.sendall(head.encode() + part("file") + b"R")
        return connection


@pytest.fixture(scope="module")
def server(module_settings: Settings) -> Iterator[httpx.Client]:
    limits: dict[str, Any] = {
        "max_streams": STREAMS,
        "max_calls": CALLS,
        "live_max_sessions": SESSIONS,
    }
    settings = module_settings.model_copy(update={"auth": "on", **limits})
    with api(settings, ToneHearer().make) as client:
        yield client


@pytest.fixture(scope="module")
def askers(server: httpx.Client, pool: Engine) -> Iterator[tuple[Asker, Asker]]:
    """Return one that is greedy, and another."""
    with ExitStack() as stack:
        found = []
        for tenant in ("greedy", "modest"):
            create_tenant(pool, tenant, tenant)
            _, key = create_key(pool, tenant, "a test's", ALL_SCOPES)
            headers = {"Authorization": f"Bearer {key}"}
            client = httpx.Client(base_url=server.base_url, headers=headers, timeout=60)
            found.append(Asker(tenant, key, stack.enter_context(client)))
        yield found[0], found[1]


def test_large_uploads_from_many_addresses_leave_places_to_another_tenant(
    askers: tuple[Asker, Asker],
) -> None:
    greedy, modest = askers
    addresses = iter(ADDRESSES)
    with ExitStack() as stack:

        def has_its_share() -> bool:
            # One more each time: an upload that is over may have kept an earlier one out.
            stack.enter_context(greedy.begin_upload(next(addresses), 10**9))
            return greedy.post(2 * 1024**2).status_code == 429

        for _ in range(2 * MAX_LARGE):
            stack.enter_context(greedy.begin_upload(next(addresses), 10**9))
        wait_until(has_its_share, within_s=60)
        assert_problem(greedy.post(2 * 1024**2), 429, "too_many_at_once")
        assert modest.post(2 * 1024**2).status_code == 202
    wait_until(lambda: greedy.post(2 * 1024**2).status_code == 202)


def test_small_uploads_from_many_addresses_leave_places_to_another_tenant(
    askers: tuple[Asker, Asker],
) -> None:
    greedy, modest = askers
    with ExitStack() as stack:
        for address in ADDRESSES[: 2 * MAX_SMALL]:
            stack.enter_context(greedy.begin_upload(address, 1000))

        def waits_for_its_turn() -> bool:
            try:
                greedy.post(10, timeout_s=0.5)
            except httpx.ReadTimeout:
                return True
            return False

        wait_until(waits_for_its_turn)
        for _ in range(5):
            assert modest.post(10).status_code == 202
    assert greedy.post(10).status_code == 202


def test_streams_and_waits_leave_places_to_another_tenant(
    askers: tuple[Asker, Asker], pool: Engine
) -> None:
    greedy, modest = askers
    jobs = {asker: add_job(pool, tenant=asker.tenant) for asker in askers}
    with ExitStack() as stack:
        for _ in range(STREAMS // 2):
            stack.enter_context(events_of(greedy.client, jobs[greedy]))
        for path in ("events", "?wait=5"):
            answer = greedy.client.get(f"/jobs/{jobs[greedy]}/{path}".replace("/?", "?"))
            assert_problem(answer, 429, "too_many_at_once")
        with events_of(modest.client, jobs[modest]):
            waited = modest.client.get(f"/jobs/{jobs[modest]}?wait=0.1")
            assert waited.status_code == 200


def test_calls_leave_places_to_another_tenant(askers: tuple[Asker, Asker]) -> None:
    greedy, modest = askers

    def call(asker: Asker, wait_s: float) -> httpx.Response:
        files = {"file": ("a.wav", uuid4().bytes)}
        return asker.client.post(f"/transcribe?wait={wait_s}", files=files)

    def hold() -> None:
        wait_until(lambda: call(greedy, 25).status_code != 429)

    calls = [Thread(target=hold) for _ in range(CALLS // 2)]
    for each in calls:
        each.start()
    wait_until(lambda: call(greedy, 0.01).status_code == 429)
    assert call(modest, 0.01).status_code == 202
    for job in greedy.client.get("/jobs").json()["jobs"]:
        greedy.client.post(f"/jobs/{job['id']}/cancel")
    for each in calls:
        each.join(60)


def test_live_sessions_and_connections_leave_places_to_another_tenant(
    askers: tuple[Asker, Asker],
) -> None:
    greedy, modest = askers
    with ExitStack() as stack:

        def connect(asker: Asker) -> Any:
            return stack.enter_context(live(asker.client, additional_headers=asker.headers))

        talkers = [connect(greedy) for _ in range(SESSIONS)]
        begun = [talker.start() for talker in talkers]
        assert [told["type"] for told in begun] == ["session_started"] * 2 + ["error"] * 2
        assert {told["code"] for told in begun[2:]} == {"MAX_SESSIONS_REACHED"}
        assert connect(modest).start()["type"] == "session_started"

        def connect_again_and_again() -> None:
            for _ in range(2 * SESSIONS):
                connect(greedy)

        with pytest.raises(InvalidStatus) as refused:
            connect_again_and_again()
        assert refused.value.response.status_code == 429
        assert b"too_many_at_once" in (refused.value.response.body or b"")
        connect(modest)
