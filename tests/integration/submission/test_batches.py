"""Batches: many jobs by one request, their counts, and one webhook at their end."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import Engine, text
from standardwebhooks import WebhookVerificationError

from harness.jobs.webhook_store import (
    OTHER_SECRET,
    SECRET,
    add_hook,
    attempt,
    cancel,
    deliveries,
    on_loopback,
)
from harness.peers.receivers import Receiver, receiving
from harness.servers.api_server import api, assert_problem
from shared.infra.settings import Settings
from shared.store.counts import count_jobs
from shared.store.jobs.delete import delete_job
from shared.store.jobs.retry import retry_job
from shared.store.retention import expire_batches
from shared.store.webhooks.endpoints import EventType
from worker.process.runtime import Runtime, make_runtime

URL = "https://files.example.com/{}.mp3"

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    public = on_loopback(servers).model_copy(update={"public_url": "https://l.example.com"})
    with api(public) as client:
        yield client


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    made = make_runtime(on_loopback(settings), "test")
    yield made
    made.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


def batch(client: httpx.Client, n: int, **more: object) -> dict[str, Any]:
    """Submit a batch of so many URLs."""
    jobs = [{"audio_url": URL.format(idx)} for idx in range(n)]
    answer = client.post("/jobs/batch", json={"jobs": jobs, **more})
    assert answer.status_code == 202, answer.text
    told: dict[str, Any] = answer.json()
    return told


def ids(told: dict[str, Any]) -> list[UUID]:
    return [UUID(each["job_id"]) for each in told["results"] if each["job_id"]]


def batch_events(database: Engine) -> list[dict[str, Any]]:
    """Return the bodies of all events of batches' ends."""
    with database.begin() as connection:
        bodies = connection.execute(
            text("SELECT body FROM webhook_events WHERE type = 'batch.completed'")
        )
        return [json.loads(body) for body in bodies.scalars()]


def test_each_job_of_a_batch_is_answered_by_its_index(client: httpx.Client) -> None:
    jobs = [
        {"audio_url": URL.format("a"), "language": "de", "metadata": {"n": 1}},
        {"audio_url": "http://10.0.0.1/x"},
        {"audio_url": URL.format("b"), "lang": "en"},
        {"upload_id": str(uuid4())},
        {},
        {"audio_url": URL.format("c"), "upload_id": str(uuid4())},
        {"audio_url": URL.format("d")},
    ]
    answer = client.post("/jobs/batch", json={"jobs": jobs, "options": {"language": "en"}})
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert answer.headers["location"] == f"/batches/{told['batch_id']}"
    assert (told["accepted"], told["refused"]) == (2, 5)
    results = told["results"]
    assert [each["index"] for each in results] == [*range(7)]
    codes = [each["problem"] and each["problem"]["code"] for each in results]
    assert codes[:3] == [None, "forbidden_url", "misnamed_field"]
    assert codes[4:] == ["invalid_request", "conflicting_options", None]
    assert results[2]["problem"]["names"] == {"lang": "language"}
    first = client.get(results[0]["location"]).json()
    assert (first["language"], first["metadata"]) == ("de", {"n": 1})
    assert first["batch_id"] == told["batch_id"]
    assert client.get(results[6]["location"]).json()["language"] == "en"
    assert client.get(f"/batches/{told['batch_id']}").json()["counts"]["queued"] == 2


def test_a_thousand_jobs_are_taken_and_no_more(client: httpx.Client, database: Engine) -> None:
    told = batch(client, 1000)
    assert (told["accepted"], told["refused"]) == (1000, 0)
    assert len(set(ids(told))) == 1000
    shown = client.get(f"/batches/{told['batch_id']}").json()
    assert (shown["jobs"], shown["counts"]["queued"]) == (1000, 1000)
    assert shown["completed_at"] is None
    with database.begin() as connection:
        steps = connection.execute(
            text("SELECT count(DISTINCT job_turn), count(*) FROM steps WHERE kind = 'fetch'")
        ).one()
    assert tuple(steps) == (1, 1000)
    jobs = [{"audio_url": URL.format("x")}] * 1001
    assert_problem(client.post("/jobs/batch", json={"jobs": jobs}), 422, "invalid_request")


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ({}, "invalid_request", "jobs"),
        ({"jobs": []}, "invalid_request", "jobs"),
        ({"jobs": ["x"]}, "invalid_request", "jobs"),
        ({"items": []}, "invalid_request", "items"),
        ({"jobs": [{}], "options": {"lang": "en"}}, "misnamed_field", "'language'"),
        ({"jobs": [{}], "options": {"vad": "loud"}}, "invalid_request", "options is wrong"),
        ({"jobs": [{}], "webhook_url": "https://a.example"}, "conflicting_options", "together"),
        (
            {"jobs": [{}], "webhook_url": "https://10.0.0.1", "webhook_secret": SECRET},
            "forbidden_url",
            "not public",
        ),
    ],
)
def test_a_bad_batch_is_refused_whole(
    client: httpx.Client, database: Engine, body: dict[str, object], code: str, told: str
) -> None:
    answer = client.post("/jobs/batch", json=body)
    assert told in str(assert_problem(answer, 422, code)["detail"])
    assert sum(count_jobs(database).by_state.values()) == 0


def test_a_batch_of_refused_jobs_leaves_nothing(client: httpx.Client, database: Engine) -> None:
    jobs = {"jobs": [{"audio_url": "ftp://x"}], "webhook_url": "https://a.example/hook"}
    told = client.post("/jobs/batch", json={**jobs, "webhook_secret": SECRET}).json()
    assert (told["batch_id"], told["accepted"], told["refused"]) == (None, 0, 1)
    with database.begin() as connection:
        for table in ("batches", "jobs", "webhook_endpoints"):
            left = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            assert left == 0, table


def test_a_tenant_s_limit_takes_the_first_jobs_of_a_batch(settings: Settings) -> None:
    limited = on_loopback(settings).model_copy(update={"tenant_max_jobs": 3})
    with api(limited) as client:
        told = batch(client, 5)
    codes = [each["problem"] and each["problem"]["code"] for each in told["results"]]
    assert codes == [None, None, None, "too_many_jobs", "too_many_jobs"]


def test_an_unknown_batch_is_not_found(client: httpx.Client) -> None:
    for batch_id in (uuid4(), "nonsense"):
        assert_problem(client.get(f"/batches/{batch_id}"), 404, "batch_not_found")


def test_a_repeated_batch_has_the_same_answer(client: httpx.Client, database: Engine) -> None:
    key = {"Idempotency-Key": "k"}
    body = {"jobs": [{"audio_url": URL.format("a")}, {"audio_url": "ftp://x"}]}
    first = client.post("/jobs/batch", json=body, headers=key)
    again = client.post("/jobs/batch", json=body, headers=key)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    other = client.post("/jobs/batch", json={"jobs": body["jobs"][:1]}, headers=key)
    assert_problem(other, 422, "idempotency_key_reused")
    assert sum(count_jobs(database).by_state.values()) == 1


def test_a_batch_s_end_is_told_once_to_its_own_webhook_and_to_listed_ones(
    client: httpx.Client, database: Engine, runtime: Runtime, receiver: Receiver
) -> None:
    add_hook(database, "https://jobs.example.com", EventType.SUCCEEDED)
    _, listed_secret = add_hook(database, receiver.url, EventType.BATCH_COMPLETED)
    told = batch(client, 3, webhook_url=receiver.url, webhook_secret=SECRET)
    *first, last = ids(told)
    for job_id in first:
        cancel(database, job_id)
    assert batch_events(database) == []

    cancel(database, last)

    attempt(runtime, last)
    (listed,) = (each for each in receiver.requests if signed(each, listed_secret))
    (own,) = (each for each in receiver.requests if signed(each, SECRET))
    event = own.verify(SECRET)
    assert event == listed.verify(listed_secret)
    assert event["type"] == "batch.completed"
    counts = {"queued": 0, "running": 0, "succeeded": 0, "failed": 0, "canceled": 3}
    assert event["data"] == {
        "batch_id": told["batch_id"],
        "result_url": f"https://l.example.com/batches/{told['batch_id']}",
        "counts": counts,
    }
    shown = client.get(f"/batches/{told['batch_id']}").json()
    assert (shown["counts"], shown["completed_at"] is None) == (counts, False)


def signed(request: Any, secret: str) -> bool:
    try:
        request.verify(secret)
    except WebhookVerificationError:
        return False
    return True


def test_jobs_that_end_at_once_complete_their_batch_once(
    client: httpx.Client, database: Engine
) -> None:
    add_hook(database, "https://a.example.com", EventType.BATCH_COMPLETED)
    for _ in range(5):
        jobs = ids(batch(client, 8))
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda job_id: cancel(database, job_id), jobs))
    events = batch_events(database)
    assert len({event["data"]["batch_id"] for event in events}) == len(events) == 5
    assert {event["data"]["counts"]["canceled"] for event in events} == {8}
    assert len(deliveries(database)) == 5


def test_a_retried_job_changes_the_counts_and_completes_nothing_again(
    client: httpx.Client, database: Engine
) -> None:
    add_hook(database, "https://a.example.com", EventType.BATCH_COMPLETED)
    told = batch(client, 2)
    first, second = ids(told)
    cancel(database, first)
    retry_job(database, "default", first, max_attempts=2)
    cancel(database, second)
    assert batch_events(database) == []  # the first goes on
    cancel(database, first)
    retry_job(database, "default", second, max_attempts=2)
    cancel(database, second)
    assert len(batch_events(database)) == 1


def test_the_last_job_of_a_batch_may_be_deleted(client: httpx.Client, database: Engine) -> None:
    add_hook(database, "https://a.example.com", EventType.BATCH_COMPLETED)
    told = batch(client, 2, webhook_url="https://own.example.com", webhook_secret=OTHER_SECRET)
    first, second = ids(told)
    cancel(database, first)
    delete_job(database, "default", second, max_attempts=2)
    (event,) = batch_events(database)
    assert event["data"]["counts"]["canceled"] == 1
    assert expire_batches(database, limit=10) == 0
    delete_job(database, "default", first, max_attempts=2)
    assert expire_batches(database, limit=10) == 1
    with database.begin() as connection:
        left = connection.execute(text("SELECT url FROM webhook_endpoints")).scalars().all()
    assert left == ["https://a.example.com"]
