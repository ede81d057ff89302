"""A job that cannot go on says what it waits for."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from httpx_sse import ServerSentEvent
from sqlalchemy import Engine

from harness.clients.streams import events_of
from harness.jobs.job_store import CHUNK, add_job, claim, prepare, transcribe
from harness.jobs.registry import enter_worker
from harness.servers.api_server import api
from shared.infra.settings import Settings
from shared.store import steps
from shared.store.queues import LARGE_BYTES
from shared.store.steps import NewStep
from shared.store.workers import set_drained, withdraw


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    with api(settings) as client:
        yield client


def waits_for(client: httpx.Client, job_id: UUID) -> str | None:
    found: dict[str, str] | None = client.get(f"/jobs/{job_id}").json()["waiting_for"]
    return found and found["code"]


@pytest.mark.parametrize("source_bytes", [1, LARGE_BYTES])
def test_a_job_to_be_prepared_waits_for_a_cpu_worker_as_long_as_there_is_none(
    client: httpx.Client, database: Engine, source_bytes: int
) -> None:
    job_id = add_job(database, source_bytes=source_bytes)

    shown = client.get(f"/jobs/{job_id}").json()

    assert shown["waiting_for"] == {"code": "cpu_worker", "detail": "a CPU worker"}
    worker = enter_worker(database, "cpu")
    assert waits_for(client, job_id) is None  # but for its turn
    withdraw(database, worker)
    assert waits_for(client, job_id) == "cpu_worker"
    enter_worker(database, "cpu", seen_s_ago=60)
    assert waits_for(client, job_id) == "cpu_worker"


def test_a_job_with_chunks_waits_for_a_worker_of_its_model_until_that_is_ready(
    client: httpx.Client, database: Engine
) -> None:
    enter_worker(database, "cpu")
    enter_worker(database, model="starter")
    job_id = add_job(database)
    prepare(database, job_id, chunks=2)
    shown = client.get(f"/jobs/{job_id}").json()["waiting_for"]
    assert shown == {"code": "model_worker", "detail": "a worker for model oracle"}
    enter_worker(database, model="oracle", state="loading")
    loading = client.get(f"/jobs/{job_id}").json()["waiting_for"]
    assert loading["detail"] == "a worker for model oracle (it is loading)"
    worker = enter_worker(database, model="oracle")
    set_drained(database, worker, drained=True, live_s=60)
    drained = client.get(f"/jobs/{job_id}").json()["waiting_for"]
    assert drained["detail"] == "a worker for model oracle (it is drained)"
    set_drained(database, worker, drained=False, live_s=60)
    assert waits_for(client, job_id) is None


def test_a_job_whose_language_is_to_be_detected_waits_for_its_model_too(
    client: httpx.Client, database: Engine
) -> None:
    enter_worker(database, "cpu")
    job_id = add_job(database)
    preparing = claim(database, job_id, "prepare")
    steps.add_chunks(database, preparing, [NewStep(0, CHUNK)], max_attempts=3, hold=True)
    assert waits_for(client, job_id) is None  # it is being prepared
    steps.add_detect(database, preparing, [CHUNK], max_attempts=3)
    assert waits_for(client, job_id) == "model_worker"


def test_a_job_that_is_heard_waits_for_a_cpu_worker_to_finish_it(
    client: httpx.Client, database: Engine
) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=1)
    transcribe(database, claim(database, job_id, "transcribe"))
    assert waits_for(client, job_id) == "cpu_worker"
    enter_worker(database, "cpu")
    assert waits_for(client, job_id) is None


def test_a_job_that_is_equal_to_one_under_way_waits_for_that(
    client: httpx.Client, database: Engine
) -> None:
    enter_worker(database, "cpu")
    file = {"file": ("a.wav", b"audio")}
    original = client.post("/jobs", files=file).json()
    copy = client.post("/jobs", files=file).json()
    assert original["waiting_for"] is None
    assert copy["waiting_for"]["code"] == "equal_job"
    assert waits_for(client, UUID(copy["id"])) == "equal_job"
    canceled = client.post(f"/jobs/{copy['id']}/cancel").json()
    assert canceled["waiting_for"] is None


def test_jobs_that_have_ended_wait_for_nothing(client: httpx.Client, database: Engine) -> None:
    job_id = add_job(database)
    client.post(f"/jobs/{job_id}/cancel")
    assert waits_for(client, job_id) is None


def test_a_list_of_jobs_tells_what_each_waits_for_with_one_query(
    client: httpx.Client, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries: list[str] = []
    execute = psycopg.Cursor.execute

    def note(cursor: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        queries.append(str(query))
        return execute(cursor, query, *arguments, **options)

    for _ in range(3):
        prepare(database, add_job(database), chunks=1)
    add_job(database)
    with monkeypatch.context() as noting:
        noting.setattr(psycopg.Cursor, "execute", note)
        jobs = client.get("/jobs").json()["jobs"]
    codes = [job["waiting_for"]["code"] for job in jobs]
    assert codes == ["cpu_worker", *3 * ["model_worker"]]
    assert len([query for query in queries if "FROM jobs" in query]) == 2


def test_a_long_poll_of_a_job_that_waits_says_so_when_its_time_is_up(
    client: httpx.Client, database: Engine
) -> None:
    job_id = add_job(database)
    answer = client.get(f"/jobs/{job_id}", params={"wait": 0.1}).json()
    assert (answer["state"], answer["waiting_for"]["code"]) == ("queued", "cpu_worker")


def test_who_watches_a_job_learns_that_its_workers_have_gone_and_come(
    client: httpx.Client, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.native.events.LOOK_AGAIN_S", 0.1)
    worker = enter_worker(database, "cpu")
    job_id = add_job(database)

    def next_progress(events: Iterator[ServerSentEvent]) -> str | None:
        for each in events:
            if each.event == "progress":
                found: dict[str, str] | None = json.loads(each.data)["waiting_for"]
                return found and found["code"]
        raise AssertionError("the stream ended")

    with events_of(client, job_id) as source:
        events = source.iter_sse()
        assert next_progress(events) is None
        withdraw(database, worker)
        assert next_progress(events) == "cpu_worker"
        enter_worker(database, "cpu")
        assert next_progress(events) is None
