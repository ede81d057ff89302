"""References over real sockets: error rates of jobs, and of models."""

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import httpx
import pytest
from longhand_sdk import Longhand
from sqlalchemy import Engine, text

from api.app import create_app, end_waits
from api.native import accuracy as asking
from harness.jobs.equal import compute, submit
from harness.jobs.job_store import add_job
from harness.programs.workers import wait_until
from harness.servers.api_server import api, assert_problem, confined, serving
from shared.infra.settings import Settings
from shared.speech.text.accuracy import MAX_REFERENCE_CHARS, Accuracy, measure, measure_within
from shared.store.jobs import accuracy as measuring
from shared.store.jobs.accuracy import measure_pending
from worker.process.runtime import make_runtime
from worker.upkeep.retention import tidy

pytestmark = pytest.mark.usefixtures("database")

TEXT = {"content-type": "text/plain; charset=utf-8"}


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client


def upload(client: httpx.Client, **fields: str) -> dict[str, Any]:
    answer = client.post("/jobs", data=fields, files={"file": ("a.wav", b"x")})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def metrics(client: httpx.Client, job_id: object) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/jobs/{job_id}").json()["metrics"]
    return found


def test_a_reference_given_with_the_job_is_measured_when_it_has_succeeded(
    client: httpx.Client, database: Engine
) -> None:
    reference = "Hello, there! " * 2000  # longer than any other field may be
    job = upload(client, reference=reference)
    assert "accuracy" not in job["metrics"]
    compute(database, UUID(job["id"]), *["hello there"] * 1999)
    accuracy = metrics(client, job["id"])["accuracy"]
    assert (accuracy["words"], accuracy["word_errors"], accuracy["wer"]) == (4000, 2, 0.0005)


def test_jobs_that_share_a_transcript_are_measured_each_against_its_own_reference(
    client: httpx.Client, database: Engine
) -> None:
    first = upload(client, reference="hello there")
    waiting = upload(client, reference="hello where")
    without = upload(client)
    compute(database, UUID(first["id"]))
    cached = upload(client, reference="hallo there you")

    assert cached["metrics"]["accuracy"]["wer"] == 0.6667
    assert metrics(client, cached["id"])["accuracy"]["wer"] == 0.6667
    assert metrics(client, first["id"])["accuracy"]["wer"] == 0.0
    assert metrics(client, waiting["id"])["accuracy"]["wer"] == 0.5
    assert "accuracy" not in metrics(client, without["id"])


LONG = " ".join(f"w{number}" for number in range(9_000))
OTHER = " ".join(f"{number}v" for number in range(9_000))


@pytest.mark.parametrize("said", ["hello there", OTHER], ids=["long reference", "long and unlike"])
def test_long_texts_are_measured_after_the_job_has_succeeded(
    client: httpx.Client, database: Engine, said: str
) -> None:
    reference = LONG if said == OTHER else LONG + " " + OTHER
    job = upload(client, reference=reference)
    compute(database, UUID(job["id"]), said)
    assert "accuracy" not in metrics(client, job["id"])
    assert measure_pending(database) == 1
    assert metrics(client, job["id"])["accuracy"]["words"] == len(reference.split())
    assert measure_pending(database) == 0


def test_of_many_jobs_that_succeed_together_a_few_are_measured_at_once_the_others_after_it(
    client: httpx.Client, database: Engine
) -> None:
    jobs = [upload(client, reference="hello where") for _ in range(7)]
    compute(database, UUID(jobs[0]["id"]))
    assert sum("accuracy" in metrics(client, job["id"]) for job in jobs) == 5
    assert measure_pending(database) == 2
    assert all(metrics(client, job["id"])["accuracy"]["wer"] == 0.5 for job in jobs)


@pytest.mark.parametrize(("bound", "of_one"), [("_AT_ONCE_CELLS", 130), ("_AT_ONCE_CHARS", 30)])
def test_jobs_that_succeed_together_share_what_may_be_done_at_once(
    client: httpx.Client,
    database: Engine,
    monkeypatch: pytest.MonkeyPatch,
    bound: str,
    of_one: int,
) -> None:
    monkeypatch.setattr(measuring, bound, of_one)  # both texts have 11 characters
    jobs = [upload(client, reference="hello where") for _ in range(2)]
    compute(database, UUID(jobs[0]["id"]))
    assert sum("accuracy" in metrics(client, job["id"]) for job in jobs) == 1
    assert measure_pending(database) == 1


def test_a_pending_job_is_measured_by_one_process_only(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_AT_ONCE_JOBS", 0)
    compute(database, submit(database, reference="hello there"))
    meanwhile: list[int] = []

    def measure_slowly(*texts: Any) -> Accuracy:
        meanwhile.append(measure_pending(database))
        return measure(*texts)

    monkeypatch.setattr(measuring, "measure", measure_slowly)
    assert measure_pending(database) == 1
    assert meanwhile == [0]


def test_the_sweeper_measures_what_a_worker_has_left(
    client: httpx.Client,
    database: Engine,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measuring, "_AT_ONCE_JOBS", 0)
    job_ids = [submit(database, fingerprint=None, reference="hello there") for _ in range(2)]
    for job_id in job_ids:
        compute(database, job_id)
    runtime = make_runtime(settings, "test")
    tidy(runtime)
    runtime.close()
    assert [metrics(client, job_id)["accuracy"]["wer"] for job_id in job_ids] == [0.0, 0.0]


def test_a_reference_that_takes_too_long_to_compare_is_left_to_a_worker(
    client: httpx.Client, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_MAX_CELLS", 10)
    job_id = submit(database, reference="hello there")
    compute(database, job_id)
    assert metrics(client, job_id)["accuracy"]["wer"] == 0.0

    answer = client.post(f"/jobs/{job_id}/reference", json={"reference": "so long, farewell"})

    assert (answer.status_code, answer.headers["Location"]) == (202, f"/jobs/{job_id}")
    assert "accuracy" not in answer.json()["metrics"]
    assert answer.json()["id"] == str(job_id)
    assert measure_pending(database) == 1
    assert metrics(client, job_id)["accuracy"]["wer"] == 1.0


def test_the_sdk_waits_for_rates_that_a_worker_measures(
    client: httpx.Client, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_MAX_CELLS", 10)
    job_id = submit(database)
    compute(database, job_id)
    paused: list[float] = []

    def pause(seconds: float) -> None:
        paused.append(seconds)
        measure_pending(database)

    with Longhand(str(client.base_url), sleep=pause) as waiting:
        found = waiting.jobs.get(str(job_id)).measure("so long, farewell")
    assert (found.wer, found.word_errors, found.words) == (1.0, 3, 3)
    assert len(paused) == 1


def test_nothing_is_measured_for_a_client_that_has_left(
    servers: Settings, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()
    measured: list[str] = []

    def measure_slowly(reference: str, *others: Any, **bound: Any) -> Accuracy | None:
        measured.append(reference)
        begun.release()
        assert go_on.wait(60)
        return measure_within(reference, *others, **bound)

    monkeypatch.setattr(asking, "measure_within", measure_slowly)
    job_id = submit(database)
    compute(database, job_id)
    app = create_app(confined(servers))
    with (
        serving(app, on_stop=partial(end_waits, app)) as url,
        ThreadPoolExecutor(2) as pool,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        path = f"/jobs/{job_id}/reference"
        assert client.get("/health/live").is_success, "the application has started"
        threads = app.state.resources.measuring_threads
        answers = [pool.submit(client.post, path, json={"reference": "hello"}) for _ in range(2)]
        for _ in answers:
            assert begun.acquire(timeout=60)
        leaving = http.client.HTTPConnection(url.removeprefix("http://"))
        leaving.request("POST", path, b"gone", TEXT)
        wait_until(lambda: threads.statistics().tasks_waiting == 1)
        leaving.close()
        wait_until(lambda: threads.statistics().tasks_waiting == 0)
        go_on.set()
        assert [answer.result(60).status_code for answer in answers] == [200, 200]
    assert measured == ["hello", "hello"]


@pytest.mark.parametrize("body", ["json", "text"])
def test_a_reference_can_be_given_afterwards_and_replaced(
    client: httpx.Client, database: Engine, body: str
) -> None:
    job_id = submit(database)
    compute(database, job_id)
    for reference, wer in (("hello there, Müller", 0.3333), ("Hello — there.", 0.0)):
        if body == "json":
            answer = client.post(f"/jobs/{job_id}/reference", json={"reference": reference})
        else:
            answer = client.post(
                f"/jobs/{job_id}/reference", content=reference.encode(), headers=TEXT
            )
        assert answer.status_code == 200, answer.text
        assert answer.json()["wer"] == wer
        assert metrics(client, job_id)["accuracy"] == answer.json()


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code", "detail"),
    [
        (b'{"reference": ""}', "application/json", 422, "empty_reference", "no words"),
        (b'{"reference": "a\\u0000"}', "application/json", 422, "invalid_request", "NUL"),
        (b'{"reference": "\\ud800 a"}', "application/json", 422, "invalid_request", "body"),
        (b'{"reference": 5}', "application/json", 422, "invalid_request", "reference"),
        (b'{"text": "a"}', "application/json", 422, "misnamed_field", "did you mean 'reference'?"),
        (b"nonsense", "application/json", 422, "invalid_request", "JSON"),
        (b" ... ", "text/plain", 422, "empty_reference", "no words"),
        (b"\xff", "text/plain", 422, "invalid_request", "UTF-8"),
        (b"a" * (MAX_REFERENCE_CHARS + 1), "text/plain", 422, "invalid_request", "2,000,000"),
        (bytes(7 * MAX_REFERENCE_CHARS), "text/plain", 422, "invalid_request", "11.4 MiB"),
        (b"a", "audio/wav", 415, "unsupported_media_type", "text/plain"),
    ],
    ids=["empty", "nul", "surrogate", "number", "misnamed", "no json", "dots", "latin-1", "long",
         "huge", "type"],
)  # fmt: skip
def test_a_bad_reference_is_refused_with_the_reason(
    client: httpx.Client,
    database: Engine,
    content: bytes,
    content_type: str,
    status: int,
    code: str,
    detail: str,
) -> None:
    job_id = submit(database)
    compute(database, job_id)
    answer = client.post(
        f"/jobs/{job_id}/reference", content=content, headers={"content-type": content_type}
    )
    assert detail in assert_problem(answer, status, code)["detail"]
    assert "accuracy" not in metrics(client, job_id)


@pytest.mark.parametrize(
    ("reference", "code"),
    [("?!", "empty_reference"), (" ", "empty_reference"), ("\0a", "invalid_request")],
)
def test_a_job_whose_reference_is_none_is_refused(
    client: httpx.Client, reference: str, code: str
) -> None:
    answer = client.post(
        "/jobs", data={"reference": reference}, files={"file": ("a.wav", b"audio")}
    )
    assert_problem(answer, 422, code)
    assert client.get("/jobs").json()["jobs"] == []


def test_only_jobs_of_ones_own_that_have_succeeded_take_a_reference(
    client: httpx.Client, database: Engine
) -> None:
    foreign = submit(database, tenant="them")
    compute(database, foreign)
    for unknown in (foreign, UUID(int=7), "x"):
        answer = client.post(f"/jobs/{unknown}/reference", json={"reference": "a"})
        assert_problem(answer, 404, "job_not_found")
    early = client.post(f"/jobs/{add_job(database)}/reference", json={"reference": "a"})
    assert assert_problem(early, 409, "transcript_not_ready")["state"] == "queued"


def test_statistics_pool_errors_and_words_and_count_what_the_cache_saved(
    client: httpx.Client, database: Engine
) -> None:
    empty = client.get("/accuracy/stats").json()
    assert "reference" in empty.pop("note")
    assert empty == {
        "models": [],
        "cache": {"computed": 0, "cached": 0, "hit_rate": None, "audio_saved_s": 0.0},
        "cache_stats": {"hits": 0, "misses": 0, "hit_rate": None},
    }
    for language, reference, said in (
        ("en", "one two three four", "one two three four"),
        ("en", "one", "two"),
        ("de", "eins zwei", "eins"),
    ):
        job = submit(database, fingerprint=None, language=language, reference=reference)
        compute(database, job, said)
    compute(database, submit(database, fingerprint="f", tenant="them", reference="a"))
    compute(database, submit(database, fingerprint="e"))
    for _ in range(4):
        submit(database, fingerprint="e")
    stats = client.get("/accuracy/stats").json()

    german, english = stats["models"]
    assert (english["model"], english["language"], english["task"]) == (
        "oracle",
        "en",
        "transcribe",
    )
    assert (english["jobs"], english["audio_s"]) == (2, 4.0)
    # One word of five; the mean of both jobs' rates would be a half.
    assert (english["words"], english["word_errors"], english["wer"]) == (5, 1, 0.2)
    assert (german["language"], german["wer"]) == ("de", 0.5)
    assert stats["cache"] == {"computed": 4, "cached": 4, "hit_rate": 0.5, "audio_saved_s": 8.0}
    assert stats["cache_stats"] == {"hits": 4, "misses": 4, "hit_rate": 0.5}


def test_error_rates_over_time_are_pooled_by_the_day_of_the_end_and_the_model(
    client: httpx.Client, database: Engine
) -> None:
    for reference, said, days in (("one two", "one", 1), ("one", "one", 1), ("one", "two", 40)):
        job = submit(database, fingerprint=None, reference=reference)
        compute(database, job, said)
        with database.begin() as connection:
            connection.execute(
                text(
                    "UPDATE jobs SET finished_at = now() - make_interval(days => :n) WHERE id = :id"
                ),
                {"n": days, "id": job},
            )
    compute(database, submit(database, tenant="them", fingerprint=None, reference="a"))

    (lately,) = client.get("/accuracy/days").json()["days"]
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    assert (lately["day"], lately["model"], lately["jobs"]) == (yesterday, "oracle", 2)
    assert (lately["words"], lately["word_errors"]) == (3, 1)
    early, _ = client.get("/accuracy/days?days=90").json()["days"]
    assert early["wer"] == 1
    assert client.get("/accuracy/days?days=1").json()["days"] == []
    assert_problem(client.get("/accuracy/days?days=0"), 422, "invalid_request")


def test_the_document_shows_both_bodies_of_a_reference(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    body = paths["/jobs/{job_id}/reference"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "text/plain"}
    assert "reference" in json.dumps(body["application/json"])
