"""Who is let in: keys, scopes, and one answer to everybody else."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import Engine
from websockets.exceptions import InvalidStatus

from api.access import keys as keys_module
from api.access.keys import REMEMBER_S
from api.access.routes import SCHEMES, declared_scope
from api.app import create_app
from api.native import health, metrics, service
from harness.programs.workers import wait_until
from harness.servers.api_server import api, assert_problem
from harness.servers.patient import connect
from shared.infra.api_keys import make_key
from shared.infra.settings import Settings
from shared.store.accounts.keys import create_key, list_keys, revoke_key
from shared.store.accounts.scopes import ALL_SCOPES, Scope
from shared.store.accounts.tenants import create_tenant

ANY_ID = "0190a6b2-5c7e-7d3a-9f10-3b1d6a4c8e21"
PATH_IDS = {
    **dict.fromkeys(
        (
            *("job_id", "batch_id", "webhook_id", "delivery_id", "key_id", "upload_id"),
            *("voice_id", "share_id", "worker_id"),
        ),
        ANY_ID,
    ),
    "tenant_id": "default",
}


@pytest.fixture(scope="module")
def locked(module_settings: Settings) -> Iterator[httpx.Client]:
    with api(module_settings.model_copy(update={"auth": "on"})) as client:
        yield client


@pytest.fixture(scope="module")
def other(module_settings: Settings) -> Iterator[httpx.Client]:
    """Another process' API, as far as caches go."""
    with api(module_settings.model_copy(update={"auth": "on"})) as client:
        yield client


def new_key(engine: Engine, *scopes: Scope, tenant: str = "default", **options: Any) -> str:
    return create_key(engine, tenant, "a test's", scopes or ALL_SCOPES, **options)[1]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of the OpenAPI document."""

    method: str
    path: str
    scope: str | None

    def call(self, client: httpx.Client, headers: Mapping[str, str]) -> httpx.Response:
        # A stream of all jobs would go on for a day.
        query = {"for_s": 0} if self.path == "/events" else None
        path = self.path.format(**PATH_IDS)
        return client.request(self.method, path, params=query, headers=dict(headers))


def operations(document: dict[str, Any]) -> list[Operation]:
    """Everything in an OpenAPI document; KeyError where it does not say who may call it."""
    return [
        Operation(
            method.upper(),
            path,
            operation["security"][0]["bearer"][0] if operation["security"] else None,
        )
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]


ALL_OPERATIONS = operations(create_app().openapi())
CLOSED = [each for each in ALL_OPERATIONS if each.scope is not None]


def test_every_route_declares_who_may_call_it_and_the_document_says_so() -> None:
    app = create_app()
    assert app.openapi()["components"]["securitySchemes"] == SCHEMES
    # A higher priority is asked for by a field, not by a route.
    scopes = {None, *ALL_SCOPES} - {Scope.JOBS_PRIORITY}
    assert {each.scope for each in ALL_OPERATIONS} == scopes
    hidden = (health.router, metrics.router, service.router)
    for router in hidden:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            declared_scope(route.endpoint)


def test_the_document_tells_what_is_answered_without_a_key_and_past_the_quota() -> None:
    for item in create_app().openapi()["paths"].values():
        for operation in item.values():
            answers = operation["responses"]
            assert ("401" in answers) == ("403" in answers) == bool(operation["security"])
            if operation["security"]:
                assert "WWW-Authenticate" in answers["401"]["headers"]
            if "429" in answers:
                assert "`rate_limited`" in answers["429"]["description"]
                assert "Retry-After" in answers["429"]["headers"]
                assert all("RateLimit" in each["headers"] for each in answers.values())


def test_only_probes_metrics_and_the_services_name_are_public() -> None:
    assert {each.path for each in ALL_OPERATIONS if each.scope is None} == {
        *("/", "/metrics", "/health", "/health/live", "/health/ready", "/health/startup"),
    }


@pytest.mark.parametrize("operation", CLOSED, ids=lambda each: f"{each.method} {each.path}")
def test_every_other_route_answers_401_without_and_403_with_any_other_key(
    operation: Operation, locked: httpx.Client, pool: Engine
) -> None:
    assert_problem(operation.call(locked, {}), 401, "unauthenticated")
    others = ALL_SCOPES - {Scope(operation.scope or "")}
    problem = assert_problem(
        operation.call(locked, bearer(new_key(pool, *others))), 403, "scope_missing"
    )
    assert problem["scope"] == operation.scope
    own = operation.call(locked, bearer(new_key(pool, Scope(operation.scope or ""))))
    assert own.status_code not in (401, 403), own.text


@pytest.mark.parametrize("path", ["/jobs", "/transcribe"])
def test_a_priority_above_the_usual_needs_a_scope(
    locked: httpx.Client, pool: Engine, path: str
) -> None:
    usual = bearer(new_key(pool, Scope.JOBS_WRITE))
    file = {"file": ("a.wav", b"RIFF", "audio/wav")}

    answer = locked.post(path, headers=usual, data={"priority": "1"}, files=file)

    assert assert_problem(answer, 403, "scope_missing")["scope"] == "jobs:priority"


def test_a_key_submits_with_the_priority_that_it_may_have(
    locked: httpx.Client, pool: Engine
) -> None:
    file = {"file": ("a.wav", b"RIFF", "audio/wav")}
    for scopes, priority in (
        ((Scope.JOBS_WRITE,), -5),
        ((Scope.JOBS_WRITE,), 0),
        ((Scope.JOBS_WRITE, Scope.JOBS_PRIORITY), 100),
    ):
        key = bearer(new_key(pool, *scopes))
        answer = locked.post("/jobs", headers=key, data={"priority": str(priority)}, files=file)
        assert answer.status_code == 202, answer.text
        assert answer.json()["priority"] == priority


def test_a_key_is_taken_from_each_of_the_usual_headers(locked: httpx.Client, pool: Engine) -> None:
    key = new_key(pool, Scope.JOBS_READ)
    for headers in (
        bearer(key),
        {"Authorization": f"bearer  {key}"},
        {"Authorization": f"Token {key}"},
        {"Authorization": key},
        {"X-API-Key": key},
        {"X-API-Key": key, "Authorization": f"Bearer {key}"},
    ):
        assert locked.get("/jobs", headers=headers).status_code == 200, headers


def test_whatever_is_wrong_with_a_credential_the_answer_is_the_same(
    locked: httpx.Client, pool: Engine
) -> None:
    good, second = new_key(pool), new_key(pool)
    view, revoked = create_key(pool, "default", "revoked", ALL_SCOPES)
    revoke_key(pool, view.id)
    mistyped = good[:-1] + ("0" if good[-1] != "0" else "1")
    wrong: list[dict[str, Any]] = [
        {},
        {"Authorization": "Bearer"},
        bearer("nonsense"),
        bearer(mistyped),
        bearer(make_key()),
        bearer(revoked),
        bearer(new_key(pool, expires_in_s=-1)),
        {"Authorization": f"Basic {good}"},
        {"Authorization": f"Bearer {good} {good}"},
        {"Authorization": f"Bearer {good}", "X-API-Key": second},
        {"X-API-Key": b"\xff"},
    ]
    answers = {
        (
            answer.status_code,
            answer.content,
            tuple((n, v) for n, v in answer.headers.items() if n != "date"),
        )
        for headers in wrong
        for answer in [locked.get("/jobs", headers={**headers, "X-Request-Id": "the-same"})]
    }
    assert len(answers) == 1, answers
    ((status, _, headers),) = answers
    assert status == 401
    assert dict(headers)["www-authenticate"] == 'Bearer realm="longhand"'
    in_query = locked.get("/jobs", params={"api_key": good, "token": good})
    assert_problem(in_query, 401, "unauthenticated")


def test_two_headers_of_a_name_that_differ_are_no_credential(
    locked: httpx.Client, pool: Engine
) -> None:
    """A proxy may have looked at the other one."""
    key, second = new_key(pool), new_key(pool)
    for name, prefix in (("Authorization", "Bearer "), ("X-API-Key", "")):
        for other, status in ((second, 401), (key, 200)):
            headers = [(name, prefix + key), (name, prefix + other)]
            assert locked.get("/jobs", headers=headers).status_code == status, headers


def test_every_wrong_credential_costs_one_look_up(
    locked: httpx.Client, pool: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the time of the answer tells nothing of what is wrong with it."""
    looked_up: list[int] = []
    found = keys_module.find_keys

    def counted(engine: Engine, digests: Any) -> Any:
        looked_up.append(len(digests))
        return found(engine, digests)

    monkeypatch.setattr(keys_module, "find_keys", counted)
    view, revoked = create_key(pool, "default", "revoked", ALL_SCOPES)
    revoke_key(pool, view.id)
    expired = new_key(pool, expires_in_s=-1)
    for wrong in ("", "x", "a.b.c", "lh_once_x", make_key(), revoked, expired, revoked):
        assert locked.get("/jobs", headers={"X-API-Key": wrong}).status_code == 401
        assert [looked_up.pop()] == [1], wrong
        assert not looked_up


def test_a_filter_that_is_no_tenants_id_is_refused(locked: httpx.Client, pool: Engine) -> None:
    admin = bearer(new_key(pool, Scope.ADMIN))
    for wrong in ("\0", "*", "A", "", "a" * 64):
        answer = locked.get("/admin/keys", params={"tenant": wrong}, headers=admin)
        assert_problem(answer, 422, "invalid_request")
    nobody = locked.get("/admin/keys", params={"tenant": "nobody"}, headers=admin)
    assert nobody.json() == {"keys": []}


def test_a_revoked_key_is_refused_by_every_process_within_a_second(
    locked: httpx.Client, other: httpx.Client, pool: Engine
) -> None:
    def refused_after_s() -> float:
        view, key = create_key(pool, "default", "x", ALL_SCOPES)
        for client in (locked, other):
            assert client.get("/jobs", headers=bearer(key)).status_code == 200
        revoke_key(pool, view.id)
        revoked_at = time.monotonic()
        for client in (locked, other):
            while client.get("/jobs", headers=bearer(key)).status_code == 200:
                pass
        return time.monotonic() - revoked_at

    # The machine may stand still meanwhile, but not each time.
    assert any(refused_after_s() < 1 for _ in range(4))
    assert REMEMBER_S < 1


def test_many_requests_cost_one_look_up_and_the_last_use_is_noted(
    locked: httpx.Client, pool: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[int] = []
    found = keys_module.find_keys

    def counted(engine: Engine, digests: Any) -> Any:
        looked_up.append(len(digests))
        return found(engine, digests)

    monkeypatch.setattr(keys_module, "find_keys", counted)
    view, key = create_key(pool, "default", "x", ALL_SCOPES)
    began = time.monotonic()
    for _ in range(20):
        assert locked.get("/jobs", headers=bearer(key)).status_code == 200
    assert len(looked_up) <= 1 + (time.monotonic() - began) / REMEMBER_S
    (listed,) = (each for each in list_keys(pool) if each.id == view.id)
    assert listed.last_used_at is not None


def test_an_administrator_makes_tenants_and_rotates_their_keys(
    locked: httpx.Client, pool: Engine
) -> None:
    admin = bearer(new_key(pool, Scope.ADMIN))
    tenant = {"id": "rotating", "name": "Rotating Ltd"}
    assert locked.post("/admin/tenants", json=tenant, headers=admin).status_code == 201
    again = locked.post("/admin/tenants", json=tenant, headers=admin)
    assert_problem(again, 409, "tenant_exists")
    listed = locked.get("/admin/tenants", headers=admin).json()["tenants"]
    assert "rotating" in {each["id"] for each in listed}

    wanted = {"tenant": "rotating", "name": "one", "scopes": ["jobs:read"], "expires_in_s": 60}
    old = locked.post("/admin/keys", json=wanted, headers=admin).json()
    new = locked.post("/admin/keys", json={**wanted, "name": "two"}, headers=admin).json()
    for made in (old, new):
        assert locked.get("/jobs", headers=bearer(made["key"])).status_code == 200
    revoked = locked.delete(f"/admin/keys/{old['id']}", headers=admin).json()
    assert revoked["revoked_at"] is not None
    shown = locked.get("/admin/keys", params={"tenant": "rotating"}, headers=admin)
    assert [each["name"] for each in shown.json()["keys"]] == ["one", "two"]
    assert old["key"] not in shown.text
    wait_until(lambda: locked.get("/jobs", headers=bearer(old["key"])).status_code == 401)
    assert locked.get("/jobs", headers=bearer(new["key"])).status_code == 200
    nobody = locked.post("/admin/keys", json={**wanted, "tenant": "nobody"}, headers=admin)
    assert_problem(nobody, 404, "tenant_not_found")
    assert_problem(locked.delete(f"/admin/keys/{ANY_ID}", headers=admin), 404, "key_not_found")


def socket_url(client: httpx.Client, path: str) -> str:
    return str(client.base_url).replace("http", "ws", 1).rstrip("/") + path


SOCKETS = ("/ws/stt", "/ws/transcribe")


@pytest.mark.parametrize("path", SOCKETS)
def test_a_socket_takes_a_key_in_a_header_or_as_subprotocol_and_nothing_in_the_query(
    path: str, locked: httpx.Client, pool: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    url = socket_url(locked, path)
    key, blind = new_key(pool, Scope.LIVE), new_key(pool, Scope.JOBS_READ)
    with connect(url, additional_headers=bearer(key)) as socket:
        assert socket.subprotocol is None
    for scheme in ("longhand", "bearer", "token"):
        with connect(url, subprotocols=[scheme, key]) as socket:  # type: ignore[list-item]
            assert socket.subprotocol == scheme
    refused: dict[int, list[Any]] = {401: [], 403: []}
    for options, status in (
        ({}, 401),
        ({"subprotocols": ["longhand", make_key()]}, 401),
        ({"subprotocols": [key]}, 401),
        ({"additional_headers": bearer(blind)}, 403),
    ):
        with pytest.raises(InvalidStatus) as info, connect(url, **options):  # type: ignore[arg-type]
            pass
        assert info.value.response.status_code == status
        problem = json.loads(info.value.response.body or b"")
        assert problem.pop("request_id")
        refused[status].append(json.dumps(problem))
    assert len(set(refused[401])) == 1
    with pytest.raises(InvalidStatus, match="401"), connect(f"{url}?token={key}&api_key={key}"):
        pass
    assert not [each for each in caplog.records if each.name == "api.websocket"]


def test_a_token_opens_one_socket_for_its_tenant_and_is_used_up(
    locked: httpx.Client, other: httpx.Client, pool: Engine
) -> None:
    view, key = create_key(pool, "default", "x", {Scope.LIVE})
    answer = locked.post("/tokens", headers=bearer(key))
    assert answer.status_code == 201
    token, seconds = answer.json()["token"], answer.json()["expires_in_s"]
    assert seconds == 60
    with connect(socket_url(other, "/ws/stt"), subprotocols=["longhand", token]):
        pass
    for _ in range(2):
        with (
            pytest.raises(InvalidStatus, match="401"),
            connect(socket_url(locked, "/ws/stt"), subprotocols=["longhand", token]),
        ):
            pass
    assert_problem(locked.get("/jobs", headers=bearer(token)), 401, "unauthenticated")

    late = locked.post("/tokens", headers=bearer(key)).json()["token"]
    revoke_key(pool, view.id)
    wait_until(lambda: locked.post("/tokens", headers=bearer(key)).status_code == 401)
    with (
        pytest.raises(InvalidStatus, match="401"),
        connect(socket_url(locked, "/ws/stt"), subprotocols=["longhand", late]),
    ):
        pass


JOB_BODIES = {
    "reference": {"reference": "x"},
    "changes": {"segment": 0, "text": "x"},
    "shares": {},
    "speakers": {"speakers": [{"id": 0, "name": "x"}]},
    "voices": {"speaker": 0, "name": "x"},
}
"""Of the operations on a job that need one, by the end of their path."""


def test_another_tenants_job_is_answered_like_one_that_does_not_exist(
    locked: httpx.Client, pool: Engine
) -> None:
    from harness.jobs.job_store import add_job

    create_tenant(pool, "neighbour", "Neighbour")
    theirs = str(add_job(pool, tenant="neighbour"))
    mine = bearer(new_key(pool)) | {"X-Request-Id": "the-same", "If-Match": "*"}
    own = bearer(new_key(pool, tenant="neighbour"))
    assert locked.get(f"/jobs/{theirs}", headers=own).status_code == 200

    with_job = [each for each in CLOSED if "{job_id}" in each.path]
    assert len(with_job) >= 8
    for operation in with_job:
        answers = {
            job_id: locked.request(
                operation.method,
                operation.path.format(job_id=job_id, share_id=ANY_ID),
                headers=mine,
                json=JOB_BODIES.get(operation.path.rpartition("/")[2]),
            )
            for job_id in (theirs, ANY_ID)
        }
        foreign, unknown = answers[theirs], answers[ANY_ID]
        assert foreign.status_code == 404, operation
        assert foreign.content.replace(theirs.encode(), ANY_ID.encode()) == unknown.content
        assert foreign.headers.keys() == unknown.headers.keys()
    assert theirs not in locked.get("/jobs", headers=mine).text
    assert UUID(theirs)
    shown = locked.get("/webhooks/deliveries", params={"job_id": theirs}, headers=mine)
    assert shown.json()["deliveries"] == []


def test_without_authentication_everybody_is_the_default_tenant(
    module_settings: Settings,
) -> None:
    with api(module_settings) as client:
        assert client.get("/jobs").status_code == 200
        assert client.get("/admin/keys").status_code == 200
        with connect(socket_url(client, "/ws/stt"), subprotocols=["longhand", "x"]) as socket:
            assert socket.subprotocol == "longhand"
