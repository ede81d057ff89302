"""Webhooks over real sockets: kept, rotated, tested, removed, by their owner alone."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from cli.embedded.ports import free_ports
from harness.jobs.job_store import add_job
from harness.jobs.webhook_store import SECRET, add_hook, cancel, endpoint
from harness.peers.receivers import Receiver, Reply
from harness.programs.workers import wait_until
from harness.servers.api_server import api, assert_problem
from shared.infra.settings import Settings
from shared.store.webhooks.endpoints import MAX_ENDPOINTS

URL = "https://receiver.example/hook"
FILE = {"file": ("a.wav", b"audio")}
ALL = ["job.succeeded", "job.failed", "job.canceled", "batch.completed"]


def add(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = client.post("/webhooks", json={"url": URL, **fields})
    assert answer.status_code == 201, answer.text
    added: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/webhooks/{added['id']}"
    return added


@pytest.mark.usefixtures("database")
def test_a_webhook_is_added_shown_changed_and_removed(client: httpx.Client) -> None:
    added = add(client, description="ours", events=["job.failed", "job.succeeded", "job.failed"])
    secret = added.pop("secret")
    assert secret.startswith("whsec_")
    assert added["events"] == ["job.succeeded", "job.failed"]
    assert (added["url"], added["description"], added["enabled"]) == (URL, "ours", True)
    assert (added["disabled_reason"], added["failing_since"]) == (None, None)
    path = f"/webhooks/{added['id']}"
    assert client.get(path).json() == added
    assert client.get("/webhooks").json() == {"webhooks": [added]}

    changed = client.patch(path, json={"description": "theirs", "events": ALL}).json()
    assert changed == {**added, "description": "theirs", "events": ALL}
    disabled = client.patch(path, json={"enabled": False}).json()
    assert (disabled["enabled"], disabled["disabled_reason"]) == (
        False,
        "its owner disabled the webhook",
    )
    assert client.patch(path, json={"enabled": True, "url": URL + "2"}).json() == {
        **changed,
        "url": URL + "2",
    }
    assert client.patch(path, json={}).status_code == 200

    assert client.delete(path).status_code == 204
    assert client.get("/webhooks").json() == {"webhooks": []}
    for answer in (client.get(path), client.delete(path)):
        assert_problem(answer, 404, "webhook_not_found")


def test_without_a_choice_every_event_is_sent(client: httpx.Client) -> None:
    assert add(client)["events"] == ALL


def test_a_secret_is_shown_when_it_is_made_and_never_again(client: httpx.Client) -> None:
    added = add(client)
    path = f"/webhooks/{added['id']}"
    rotated = client.post(f"{path}/rotate").json()
    assert rotated["secret"] != added["secret"]
    assert rotated["old_secret_until"] > rotated["created_at"]
    shown = [
        client.get(path).text,
        client.get("/webhooks").text,
        client.patch(path, json={"description": "x"}).text,
        client.post(f"{path}/test").text,
        client.get("/webhooks/deliveries").text,
    ]
    for text_shown in shown:
        assert "whsec_" not in text_shown


@pytest.mark.parametrize(
    ("body", "code", "detail"),
    [
        ({"url": "ftp://receiver.example/"}, "forbidden_url", "https"),
        ({"url": "https://user:secret@receiver.example/"}, "forbidden_url", "password"),
        ({"url": "https://10.0.0.1/"}, "forbidden_url", "not public"),
        ({"url": "https://10.0.0.1/"}, "forbidden_url", "LONGHAND_OUTBOUND_ALLOW"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "forbidden_url", "not public"),
        ({"url": "https://169.254.169.254/latest"}, "forbidden_url", "not public"),
        ({"url": "receiver"}, "forbidden_url", "https"),
        ({"url": "https://r.example/" + "x" * 2048}, "invalid_request", "2,048 characters"),
        ({}, "invalid_request", "url"),
        ({"url": URL, "events": []}, "invalid_request", "events"),
        ({"url": URL, "events": ["job.started"]}, "invalid_request", "job.canceled"),
        ({"url": URL, "secret": SECRET}, "invalid_request", "secret: unknown"),
        ({"url": URL, "event": ["job.failed"]}, "misnamed_field", "did you mean 'events'?"),
        ({"url": URL, "description": "a\0b"}, "invalid_request", "NUL"),
        ({"url": URL, "description": "x" * 501}, "invalid_request", "500"),
        ([], "invalid_request", "body"),
    ],
)
def test_a_bad_webhook_is_refused(
    client: httpx.Client, body: object, code: str, detail: str
) -> None:
    before = client.get("/webhooks").json()
    problem = assert_problem(client.post("/webhooks", json=body), 422, code)
    assert detail in problem["detail"]
    assert "secret@" not in problem["detail"]
    assert client.get("/webhooks").json() == before


@pytest.mark.parametrize("change", [{"url": "https://127.0.0.1.nip.io:x/"}, {"enabled": "perhaps"}])
def test_a_bad_change_is_refused(client: httpx.Client, change: object) -> None:
    added = add(client)
    answer = client.patch(f"/webhooks/{added['id']}", json=change)
    assert answer.status_code == 422
    assert client.get(f"/webhooks/{added['id']}").json()["url"] == URL


def test_plain_http_is_refused_unless_the_operator_allows_it(settings: Settings) -> None:
    with api(settings) as strict:
        problem = assert_problem(
            strict.post("/webhooks", json={"url": "http://receiver.example/"}),
            422,
            "forbidden_url",
        )
        fields = {"webhook_url": "http://receiver.example/", "webhook_secret": SECRET}
        assert_problem(strict.post("/jobs", data=fields, files=FILE), 422, "forbidden_url")
    assert problem["detail"] == (
        "the URL must begin with https:// (an operator can allow http://: LONGHAND_OUTBOUND_HTTP)"
    )


def test_a_body_that_is_no_json_or_too_long_is_refused(client: httpx.Client) -> None:
    headers = {"content-type": "application/json"}
    assert_problem(client.post("/webhooks", content=b"{", headers=headers), 422, "invalid_request")
    long = b" " * 100_000
    refused = client.post("/webhooks", content=long, headers=headers)
    problem = assert_problem(refused, 422, "invalid_request")
    assert problem["detail"] == "the body is larger than 64 KiB"


def test_a_body_sent_as_curl_does_by_itself_is_told_how_to_be_sent(client: httpx.Client) -> None:
    answer = client.post("/webhooks", data={"url": URL})
    assert assert_problem(answer, 415, "unsupported_media_type")["detail"] == (
        "send the body as application/json, with curl -H 'Content-Type: application/json'; "
        "this one is application/x-www-form-urlencoded"
    )


def test_there_is_a_limit_to_the_webhooks_of_a_tenant(
    client: httpx.Client, database: Engine
) -> None:
    for tenant, n in (("default", MAX_ENDPOINTS - 1), ("somebody else", MAX_ENDPOINTS)):
        with database.begin() as connection:
            connection.execute(
                text("""
                    INSERT INTO webhook_endpoints (id, tenant, url, host, events, secret, listed)
                    SELECT gen_random_uuid(), :tenant, :url, 'h', '{job.failed}', 'whsec_', true
                    FROM generate_series(1, :n)
                """),
                {"tenant": tenant, "url": URL, "n": n},
            )
    add(client)
    problem = assert_problem(client.post("/webhooks", json={"url": URL}), 409, "too_many_webhooks")
    assert str(MAX_ENDPOINTS) in problem["detail"]


@pytest.mark.usefixtures("database")
def test_a_test_is_sent_at_once_and_recorded(client: httpx.Client, receiver: Receiver) -> None:
    added = add(client, url=receiver.url, events=["job.failed"])
    result = client.post(f"/webhooks/{added['id']}/test").json()
    (event,) = receiver.verified(added["secret"])
    assert (event["type"], event["data"]) == ("webhook.test", {"webhook_id": added["id"]})
    assert (result["delivered"], result["status_code"], result["error"]) == (True, 204, None)
    assert 0 < result["latency_ms"] < 15_000
    (delivery,) = client.get("/webhooks/deliveries").json()["deliveries"]
    assert (delivery["id"], delivery["state"]) == (result["delivery_id"], "delivered")
    assert (delivery["job_id"], delivery["event"]["type"]) == (None, "webhook.test")
    assert delivery["event"]["body"].encode() == receiver.requests[0].body
    (attempt,) = delivery["attempts"]
    assert attempt["status_code"] == 204
    again = client.post(f"/webhooks/deliveries/{delivery['id']}/replay")
    assert_problem(again, 409, "delivery_not_replayable")


@pytest.mark.usefixtures("database")
def test_a_test_that_fails_says_why_and_nothing_of_the_answer(
    client: httpx.Client, receiver: Receiver
) -> None:
    receiver.reply(Reply(500, {"X-Inner": "inner words"}, b"inner words"))
    added = add(client, url=receiver.url)
    answer = client.post(f"/webhooks/{added['id']}/test")
    result = answer.json()
    assert (result["delivered"], result["status_code"]) == (False, 500)
    assert result["error"] == "the receiver answered 500"
    receiver.close()
    refused = client.post(f"/webhooks/{added['id']}/test").json()
    assert (refused["status_code"], refused["error"]) == (None, "the connection was refused")
    found = client.get("/webhooks/deliveries", params={"state": "failed"})
    assert len(found.json()["deliveries"]) == 2
    assert "inner words" not in answer.text + found.text
    assert client.get(f"/webhooks/{added['id']}").json()["enabled"]


def test_a_foreign_an_unknown_and_a_malformed_id_are_one_404(
    client: httpx.Client, database: Engine
) -> None:
    foreign, _ = add_hook(database, URL, tenant="somebody else")
    job_id = add_job(database, tenant="somebody else")
    cancel(database, job_id, "somebody else")
    with database.begin() as connection:
        delivery = connection.execute(text("SELECT id FROM webhook_deliveries")).scalar_one()
        connection.execute(text("UPDATE webhook_deliveries SET state = 'failed'"))
    unknown = "01890000-0000-7000-8000-000000000000"
    problems = []
    for tried in (str(foreign), unknown, "x"):
        path = f"/webhooks/{tried}"
        for answer in (
            client.get(path),
            client.patch(path, json={"enabled": False}),
            client.delete(path),
            client.post(f"{path}/rotate"),
            client.post(f"{path}/test"),
        ):
            problem = assert_problem(answer, 404, "webhook_not_found")
            assert problem["detail"] == f"there is no webhook {tried}"
            problems.append({**problem, "detail": "", "instance": "", "request_id": ""})
    assert all(problem == problems[0] for problem in problems)
    for tried in (str(delivery), unknown, "x"):
        answer = client.post(f"/webhooks/deliveries/{tried}/replay")
        problem = assert_problem(answer, 404, "delivery_not_found")
        assert problem["detail"] == f"there is no delivery {tried}"
    assert endpoint(database, foreign).enabled
    assert client.get("/webhooks").json() == {"webhooks": []}
    assert client.get("/webhooks/deliveries").json()["deliveries"] == []


def test_the_documented_receiver_verifies_what_it_is_sent(client: httpx.Client) -> None:
    guide = (Path(__file__).parents[3] / "docs/webhooks.md").read_text()
    (code,) = (
        block.split("```")[0]
        for block in guide.split("```python\n")[1:]
        if "standardwebhooks" in block.split("```")[0]
    )
    (port,) = free_ports(1)
    added = add(client, url=f"http://127.0.0.1:{port}/")
    code = code.replace("9000", str(port)).replace("whsec_...", added["secret"])
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        path = f"/webhooks/{added['id']}"
        wait_until(lambda: client.post(f"{path}/test").json()["status_code"] is not None)
        assert client.post(f"{path}/test").json()["status_code"] == 204
        for _ in range(2):  # until the receiver's secret is none of the two that sign
            client.post(f"{path}/rotate")
        assert client.post(f"{path}/test").json()["status_code"] == 401
    finally:
        process.kill()
        process.wait()
