"""Every route of a live API, asked by everybody: docs/security.md has what they are answered."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import Engine, text
from uuid_utils.compat import uuid7
from websockets.exceptions import InvalidStatus

from api.app import create_app
from docs.access_table import ANYBODY, LET_IN, OPENED, OWN_ONLY, SAME, SOCKET, Row, rows
from harness.clients.swagger import Operation, operations
from harness.jobs.equal import compute, submit
from harness.jobs.job_store import add_batch
from harness.jobs.registry import enter_worker
from harness.jobs.webhook_store import add_hook, on_loopback
from harness.live.clients import live
from harness.live.hearers import ToneHearer
from harness.peers.receivers import receiving
from harness.programs.workers import wait_until
from harness.servers.api_server import api
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.speech.speakers.recognition import voiceprints_of
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import ALL_SCOPES, Scope
from shared.store.accounts.tenants import create_tenant
from shared.store.jobs.cancel import cancel_job
from shared.store.limits import NO_LIMITS
from shared.store.objects.keys import source_key
from shared.store.share_links import create_share_link
from shared.store.uploads import NewUpload, create_upload
from shared.store.voices import add_voice
from shared.store.webhooks.deliveries import list_deliveries

UNKNOWN = "0190a6b2-5c7e-7d3a-9f10-3b1d6a4c8e21"
STATES = {"cancel_job": "queued", "retry_job": "canceled", "delete_job": "removable"}
"""The job with which an operation succeeds, where it is not one that has succeeded."""
AUDIO = b"audio"
UPLOADS = {
    "complete_upload": "complete",
    "delete_upload": "removable",
    "show_tus_upload": "resumable",
    "append_to_tus_upload": "resumable",
    "terminate_tus_upload": "resumable, removable",
}
"""The upload with which an operation succeeds, where it is not one that is open."""
LATER = re.compile(rb'"(?:url_)?expires_at":"[^"]*"|X-Amz-(?:Date|Signature)=\w+')
"""An upload that somebody asks for lives on, and its URLs are signed anew."""
PROBES = ("/health/ready", "/health/startup", "/ready")
"""On a busy machine they may be answered with 503 once."""
WORKER = "model-oracle"
ROWS = rows(create_app())


@dataclass(frozen=True)
class Owner:
    """A tenant, its keys, and something of each kind that a tenant may have."""

    name: str
    jobs: Mapping[str, str]
    """Ids by what is to be done with the jobs."""
    hooks: Mapping[str, str]
    delivery: str
    key_id: str
    batch: str
    voice: str
    share: str
    """To be revoked."""
    share_token: str
    """Of another one."""
    uploads: Mapping[str, str]
    """Ids by what is to be done with the uploads."""
    keys: Mapping[str, dict[str, str]]
    """Headers by the only scope of the key, and by ``not `` and the only scope that it lacks."""

    def ids(self, operation: Operation) -> dict[str, str]:
        """Return the parameters of an operation's path with which it succeeds."""
        name = operation.spec["operationId"]
        return {
            "job_id": self.jobs[STATES.get(name, "succeeded")],
            "webhook_id": self.hooks["removable" if name == "remove_webhook" else "kept"],
            "delivery_id": self.delivery,
            "key_id": self.key_id,
            "batch_id": self.batch,
            "voice_id": self.voice,
            "share_id": self.share,
            "worker_id": WORKER,
            "upload_id": self.uploads[UPLOADS.get(name, "open")],
            "tenant_id": self.name,
        }

    @property
    def all_ids(self) -> set[str]:
        own = (self.jobs, self.hooks, self.uploads)
        single = (self.delivery, self.key_id, self.batch, self.voice, self.share)
        return {*single, *(each for ids in own for each in ids.values())}


def make_owner(engine: Engine, storage: Storage, name: str, url: str) -> Owner:
    create_tenant(engine, name, name)
    hooks = {use: str(add_hook(engine, url, tenant=name)[0]) for use in ("kept", "removable")}
    jobs = {}
    for use in ("succeeded", "queued", "canceled", "removable"):
        jobs[use] = submit(engine, fingerprint=None, tenant=name)
        storage.put(source_key(jobs[use]), b"x")
    compute(engine, jobs["succeeded"], f"said by {name}")
    cancel_job(engine, name, jobs["canceled"], max_attempts=2)
    uploads = {}
    for use in ("open", *UPLOADS.values()):
        new = NewUpload(
            uuid7(), name, "a.wav", 1000, sha256=None, resumable=use.startswith("resumable")
        )
        uploads[use] = str(create_upload(engine, new, NO_LIMITS, keep_s=600).id)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE uploads SET state = 'complete' WHERE id = :id"),
            {"id": uploads["complete"]},
        )
        speaker = '{"speakers": [{"id": 0, "name": "Speaker 0", "speech_s": 9}]}'
        prints = voiceprints_of("m", "1", np.ones((1, 2), np.float32)).model_dump_json()
        connection.execute(
            text(
                "UPDATE transcripts SET header = header || CAST(:speaker AS jsonb), "
                "voiceprints = CAST(:prints AS jsonb) WHERE id = :id"
            ),
            {"id": jobs["succeeded"], "speaker": speaker, "prints": prints},
        )
        # As after their last attempts.
        connection.execute(
            text(
                "UPDATE webhook_deliveries SET state = 'failed', finished_at = now() "
                "WHERE tenant = :name"
            ),
            {"name": name},
        )
    delivery = next(
        each
        for each in list_deliveries(engine, name, limit=10)
        if str(each.endpoint_id) == hooks["kept"]
    )
    keys = {}
    for scope in Scope:
        for kind, scopes in ((str(scope), {scope}), (f"not {scope}", ALL_SCOPES - {scope})):
            keys[kind] = {"X-API-Key": create_key(engine, name, "a test's", scopes)[1]}
    removable, _ = create_share_link(engine, name, jobs["succeeded"])
    _, share_token = create_share_link(engine, name, jobs["succeeded"])
    key, _ = create_key(engine, name, "to be revoked", {Scope.LIVE})
    return Owner(
        name,
        {use: str(job) for use, job in jobs.items()},
        hooks,
        str(delivery.id),
        str(key.id),
        str(add_batch(engine, 1, tenant=name)),
        str(add_voice(engine, name, jobs["succeeded"], speaker=0, name="Anna").id),
        str(removable.id),
        share_token,
        uploads,
        keys,
    )


@dataclass(frozen=True)
class Platform:
    """A live API with keys on, and two of its tenants."""

    client: httpx.Client
    mine: Owner
    theirs: Owner
    before: Mapping[str, bytes]
    """What ``mine`` was answered by each GET before there was anything of ``theirs``."""
    operations: list[Operation]
    """Those that remove things are last."""

    def request(
        self,
        operation: Operation,
        ids: Mapping[str, str],
        headers: Mapping[str, str],
        **changes: Any,
    ) -> httpx.Response:
        """Send what the page /docs sends, with these ids in the path."""
        (media_type, *_) = operation.media_types
        made = operation.request(self.client, ids, AUDIO, media_type)
        made.headers.update({"X-Request-Id": "the-same", **headers})
        if "content" in changes:
            made = self.client.build_request(
                made.method, made.url, headers=dict(headers), content=changes["content"]
            )
        return self.client.send(made)


@pytest.fixture(scope="module")
def platform(module_settings: Settings, pool: Engine, storage: Storage) -> Iterator[Platform]:
    settings = on_loopback(module_settings).model_copy(update={"auth": "on", "call_wait_s": 0.05})
    with api(settings, ToneHearer().make) as client, receiving() as receiver:
        document = client.get("/openapi.json").json()
        found = list(operations(document))
        mine = make_owner(pool, storage, "mine", receiver.url)
        platform = Platform(client, mine, mine, {}, found)
        before = own_answers(platform)
        theirs = make_owner(pool, storage, "theirs", receiver.url)
        yield replace(platform, theirs=theirs, before=before)


def scope_of(operation: Operation) -> str:
    """Return the scope that the document names."""
    demands = operation.spec["security"]
    return str(demands[0]["bearer"][0]) if demands else ANYBODY


def is_of_a_tenant(operation: Operation) -> bool:
    return scope_of(operation) not in (ANYBODY, Scope.ADMIN)


def own_answers(platform: Platform) -> dict[str, bytes]:
    """Return what ``mine`` is answered by each GET of what is its own."""
    by_name = {row.route: row for row in ROWS}
    return {
        name: LATER.sub(
            b"",
            platform.request(
                each, platform.mine.ids(each), platform.mine.keys[scope_of(each)]
            ).content,
        )
        for each in platform.operations
        if each.method == "get"
        for name in [f"GET {each.path}"]
        if by_name[name].other in ("404", OWN_ONLY)
    }


def cell(answer: httpx.Response) -> str:
    """Return an answer as the table has it."""
    return LET_IN if answer.is_success else str(answer.status_code)


def test_a_tenants_answers_do_not_change_by_what_another_has_and_does(platform: Platform) -> None:
    assert len(platform.before) >= 10
    assert own_answers(platform) == platform.before
    assert platform.theirs.name.encode() not in b"".join(platform.before.values())


def test_another_tenants_id_is_answered_like_an_unknown_one_and_changes_nothing(
    platform: Platform,
) -> None:
    mine, theirs = platform.mine, platform.theirs
    swapped = replace(platform, mine=theirs)
    theirs_before = own_answers(swapped)
    with_ids = [each for each in platform.operations if "{" in each.path and is_of_a_tenant(each)]
    assert len(with_ids) >= 14
    for operation in with_ids:
        foreign = theirs.ids(operation)
        headers = mine.keys[scope_of(operation)]
        for changes in ({}, {"content": b""}, {"content": b"{"}):
            answers = [
                platform.request(operation, ids, headers, **changes)
                for ids in (foreign, dict.fromkeys(foreign, UNKNOWN))
            ]
            assert told(answers[0], foreign) == told(answers[1], foreign), operation
            assert changes or answers[0].status_code == 404, (operation, answers[0].text)
    assert own_answers(swapped) == theirs_before


def told(answer: httpx.Response, foreign: Mapping[str, str]) -> tuple[int, bytes, dict[str, str]]:
    """Return all that an answer tells, with the unknown id in place of the ids asked for."""
    content = answer.content
    for each in foreign.values():
        content = content.replace(each.encode(), UNKNOWN.encode())
    changing = ("date", "ratelimit", "x-request-id")
    content = content.replace(answer.headers["x-request-id"].encode(), b"the-same")
    return (
        answer.status_code,
        content,
        {name: value for name, value in answer.headers.items() if name not in changing},
    )


def test_filters_and_cursors_of_another_tenant_show_nothing_of_it(platform: Platform) -> None:
    client, mine, theirs = platform.client, platform.mine, platform.theirs
    for path, scope in (("/jobs", "jobs:read"), ("/webhooks/deliveries", "webhooks")):
        page = client.get(path, params={"limit": 1}, headers=theirs.keys[scope]).json()
        seen = client.get(path, params={"cursor": page["next_cursor"]}, headers=mine.keys[scope])
        assert seen.status_code == 200
        assert not [each for each in theirs.all_ids if each in seen.text]
        assert [each for each in mine.all_ids if each in seen.text]
    filters = {"job_id": theirs.jobs["succeeded"], "endpoint_id": theirs.hooks["kept"]}
    for name, foreign in filters.items():
        answers = [
            client.get("/webhooks/deliveries", params={name: given}, headers=mine.keys["webhooks"])
            for given in (foreign, UNKNOWN)
        ]
        assert answers[0].json() == {"deliveries": [], "next_cursor": None}
        assert answers[0].content == answers[1].content
    for given in (theirs.batch, UNKNOWN):
        seen = client.get("/jobs", params={"batch_id": given}, headers=mine.keys["jobs:read"])
        assert seen.json() == {"jobs": [], "next_cursor": None}
    uses_ids = {
        parameter["name"]
        for each in platform.operations
        for parameter in each.spec.get("parameters", ())
        if parameter["in"] == "query" and parameter.get("schema", {}).get("format") == "uuid"
    }
    assert uses_ids == filters.keys() | {"batch_id"}  # a new filter belongs here


def test_a_stream_of_another_tenants_job_is_refused_before_it_begins(platform: Platform) -> None:
    theirs, headers = platform.theirs, platform.mine.keys["jobs:read"]
    for last in ("", "0", "1000000"):
        answers = []
        for job in (theirs.jobs["queued"], UNKNOWN):
            resumed = {**headers, "Last-Event-ID": last, "X-Request-Id": "the-same"}
            answer = platform.client.get(f"/jobs/{job}/events", headers=resumed)
            answers.append(told(answer, {"job_id": job}))
        assert answers[0] == answers[1]
        assert answers[0][0] == 404


def test_a_session_of_another_tenant_is_as_unknown_as_none(platform: Platform) -> None:
    mine, theirs = platform.mine.keys["live"], platform.theirs.keys["live"]
    with live(platform.client, additional_headers=theirs) as talker:
        token = talker.start(session_id="a name")["resume_token"]
        errors = []
        for tried in (token, "x" * len(token)):
            with live(platform.client, additional_headers=mine) as stranger:
                errors.append(stranger.start(session_id="a name", resume_token=tried))
        assert errors[0] == errors[1]
        assert errors[0]["code"] == "SESSION_NOT_FOUND"
        with live(platform.client, additional_headers=mine) as namesake:
            assert namesake.start(session_id="a name")["type"] == "session_started"
        talker.send({"type": "end_session"})  # nobody has taken it over
        assert talker.read_until("session_ended")[-1]["reason"] == "completed"


def test_an_administrator_sees_all_tenants_and_their_keys(platform: Platform) -> None:
    headers = platform.mine.keys["admin"]
    tenants = platform.client.get("/admin/tenants", headers=headers).json()["tenants"]
    assert {each["id"] for each in tenants} == {"default", "mine", "theirs"}
    keys = platform.client.get("/admin/keys", headers=headers).json()["keys"]
    assert {platform.mine.key_id, platform.theirs.key_id} <= {each["id"] for each in keys}
    wanted = {"tenant": "theirs", "name": "made by another's administrator", "scopes": ["live"]}
    made = platform.client.post("/admin/keys", json=wanted, headers=headers)
    assert (made.status_code, made.json()["tenant"]) == (201, "theirs")


def observe_dialect(platform: Platform, row: Row) -> Row:
    """Ask a route of a dialect, which is not in the document: what it takes is in its own tests."""
    method, path = row.route.split()
    use = "queued" if method == "DELETE" else "succeeded"

    def ask(headers: Mapping[str, str], owner: Owner = platform.mine) -> str:
        whole = path.replace("{name:path}", "oracle").replace("{transcript_id}", owner.jobs[use])
        return cell(platform.client.request(method, whole, headers=headers))

    mine = platform.mine.keys
    is_of_one = "{transcript_id}" in path
    other = ask(mine[row.scope], platform.theirs) if is_of_one else row.other
    own = ask(mine[row.scope])
    assert own not in ("401", "403", "404", "405")
    return replace(row, no_key=ask({}), no_scope=ask(mine[f"not {row.scope}"]), other=other)


def socket_cell(platform: Platform, path: str, headers: Mapping[str, str]) -> str:
    try:
        with live(platform.client, path, additional_headers=headers):
            return OPENED
    except InvalidStatus as refused:
        return str(refused.response.status_code)


def observe_socket(platform: Platform, row: Row) -> Row:
    path, mine = row.route.removeprefix(f"{SOCKET} "), platform.mine.keys
    if path == "/v1/realtime":
        path += "?intent=transcription"
    tried = ({}, mine[f"not {row.scope}"], mine[row.scope])
    no_key, no_scope, own = (socket_cell(platform, path, headers) for headers in tried)
    return replace(row, no_key=no_key, no_scope=no_scope, own=own)


def observe_open(platform: Platform, row: Row) -> Row:
    """Ask a route that is for anybody, or is not in the document."""
    method, path = row.route.replace("{path:path}", "app.js").split()
    posted = {
        "/session": {"key": platform.mine.keys["live"]["X-API-Key"]},
        "/s": {"token": platform.mine.share_token},
    }

    def ask(headers: Mapping[str, str]) -> str:
        if path in PROBES:
            wait_until(lambda: platform.client.get(path).is_success)
        answer = platform.client.request(method, path, headers=headers, json=posted.get(path))
        platform.client.cookies.clear()  # of the page's login
        return cell(answer)

    no_key, wrong = ask({}), ask({"Authorization": "Bearer wrong"})
    return replace(row, no_key=no_key, no_scope=wrong, other=SAME, own=wrong)


def observe(platform: Platform, operation: Operation, row: Row) -> Row:
    mine, theirs = platform.mine, platform.theirs
    scope, ids = scope_of(operation), mine.ids(operation)
    no_key = platform.request(operation, ids, {})
    no_scope = platform.request(operation, ids, mine.keys[f"not {scope}"])
    if "{" in operation.path:
        other = cell(platform.request(operation, theirs.ids(operation), mine.keys[scope]))
    else:
        other = row.other  # the tests above look for what is another tenant's
    own = platform.request(operation, ids, mine.keys[scope])
    assert str(own.status_code) in operation.spec["responses"], own.text
    return Row(
        f"{operation.method.upper()} {operation.path}",
        scope,
        cell(no_key),
        cell(no_scope),
        other,
        cell(own),
    )


# Last in this file, as it changes and removes what is there.
def test_the_table_of_who_sees_what_is_what_a_live_api_answers(
    platform: Platform, pool: Engine
) -> None:
    assert enter_worker(pool, "model", "oracle") == WORKER
    by_route = {row.route: row for row in ROWS}
    observed = []
    for operation in platform.operations:
        row = by_route.pop(f"{operation.method.upper()} {operation.path}")
        if row.scope == ANYBODY:
            assert scope_of(operation) == ANYBODY
            observed.append(observe_open(platform, row))
        else:
            observed.append(observe(platform, operation, row))
    for row in by_route.values():
        if row.route.startswith(SOCKET):
            observed.append(observe_socket(platform, row))
        else:
            look = observe_open if row.scope == ANYBODY else observe_dialect
            observed.append(look(platform, row))
    assert {row.route: row for row in observed} == {row.route: row for row in ROWS}
