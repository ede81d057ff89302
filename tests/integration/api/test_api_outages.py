"""What clients get while Postgres, S3 or Redis is away."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, make_url, text

from api.native import health
from api.problems import RETRY_AFTER_S
from harness.jobs.job_store import add_job
from harness.jobs.removals import remove_all
from harness.programs.workers import wait_until
from harness.servers.api_server import (
    api,
    assert_problem,
    open_upload,
    part,
    read_answer,
    relayed,
    stored,
)
from harness.servers.frozen import frozen_postgres
from shared.infra.errors import StorageUnavailable
from shared.infra.settings import Settings
from shared.infra.storage import PART_BYTES, Storage
from shared.store.counts import count_jobs
from shared.store.jobs.read import get_job
from shared.store.objects.keys import source_key

FILE = {"file": ("a.wav", b"audio")}
FILE_BYTES = PART_BYTES + 3 * 1024**2


@pytest.mark.parametrize(
    ("url", "code"),
    [("database_url", "database_unavailable"), ("storage_url", "storage_unavailable")],
)
def test_without_postgres_or_s3_a_job_is_refused_with_a_time_to_retry(
    settings: Settings, database: Engine, storage: Storage, url: str, code: str
) -> None:
    before = stored(storage)
    with relayed(settings, url) as (cut_off, relay), api(cut_off) as client:
        wait_until(lambda: client.get("/ready").status_code == 200)
        relay.cut()
        answer = client.post("/jobs", files=FILE)
    assert_problem(answer, 503, code)
    assert answer.headers["retry-after"] == str(RETRY_AFTER_S)
    assert stored(storage) == before
    assert sum(count_jobs(database).by_state.values()) == 0


def test_without_postgres_an_upload_is_refused_before_it_is_sent(settings: Settings) -> None:
    with relayed(settings, "database_url") as (cut_off, relay), api(cut_off) as client:
        relay.cut()
        with open_upload(str(client.base_url), "Content-Length: 10000000") as connection:
            assert "database_unavailable" in read_answer(connection)
        assert_problem(client.get("/jobs"), 503, "database_unavailable")


@pytest.mark.parametrize(
    ("url", "code"),
    [("database_url", "database_unavailable"), ("storage_url", "storage_unavailable")],
)
def test_an_outage_during_an_upload_leaves_no_job_and_nothing_for_good(
    settings: Settings, database: Engine, storage: Storage, url: str, code: str
) -> None:
    before = stored(storage)
    with (
        relayed(settings, url) as (cut_off, relay),
        api(cut_off) as client,
        open_upload(str(client.base_url), "Transfer-Encoding: chunked") as connection,
    ):
        body = part("file") + bytes(FILE_BYTES)
        connection.sendall(b"%x\r\n%b\r\n" % (len(body), body))
        wait_until(lambda: stored(storage) != before, within_s=60)
        relay.cut()
        end = b"\r\n--b--\r\n"
        connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(end), end))
        answer = read_answer(connection)
    assert answer.startswith("503\n")
    assert code in answer
    # What could not be told that it is superfluous, by whom or to whom, is removed in its time.
    assert stored(storage) - before
    remove_all(database, storage)
    assert stored(storage) == before
    assert sum(count_jobs(database).by_state.values()) == 0


def test_a_commit_whose_answer_is_lost_is_found_and_keeps_its_file(
    settings: Settings, database: Engine, storage: Storage
) -> None:
    with relayed(settings, "database_url") as (cut_off, relay), api(cut_off) as client:
        client.get("/jobs")
        relay.lose_answer(b"INSERT INTO jobs", b"COMMIT")
        answer = client.post("/jobs", files=FILE)
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["id"]
    assert count_jobs(database).by_state["queued"] == 1
    assert storage.read(source_key(job_id), 0, 2**40) == FILE["file"][1]


@pytest.mark.parametrize("outage", ["cut", "mute"])
def test_a_job_is_accepted_without_waiting_for_redis(
    settings: Settings, database: Engine, outage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever waited for a Redis that says nothing would wait longer than the client does (30 s).
    monkeypatch.setattr("shared.queue.broker._CONNECT_TIMEOUT_S", 120.0)
    monkeypatch.setattr("shared.queue.broker._SEND_TIMEOUT_S", 120.0)
    with relayed(settings, "broker_url") as (cut_off, relay), api(cut_off) as client:
        wait_until(lambda: client.get("/ready").status_code == 200)
        getattr(relay, outage)()
        for _ in range(3):
            answer = client.post("/jobs", files=FILE)
            assert answer.status_code == 202
        relay.cut()  # lets the thread go that sends wake-ups
    assert get_job(database, "default", UUID(answer.json()["id"])).state == "queued"


@pytest.mark.parametrize("outage", ["cut", "mute"])
@pytest.mark.parametrize(
    ("url", "check"),
    [("database_url", "postgres"), ("broker_url", "redis"), ("storage_url", "s3")],
)
def test_readiness_names_what_is_away_and_does_not_wait_for_it(
    settings: Settings, url: str, check: str, outage: str
) -> None:
    with relayed(settings, url) as (cut_off, relay), api(cut_off) as client:
        wait_until(lambda: client.get("/health/ready").json()["status"] == "ready")
        getattr(relay, outage)()
        # The machine may stand still meanwhile, but not each time.
        for _ in range(4):
            began = time.monotonic()
            answer = client.get("/health/ready")
            took_s = time.monotonic() - began
            checks = answer.json()["checks"]
            away = [name for name, state in checks.items() if not state["ok"]]
            # Of those that say nothing, Postgres would be given up after 15 s, and the object
            # store after 60.
            is_quick = took_s < 10 * health.CHECK_LIMIT_S
            if is_quick and away == [check]:
                break
        assert client.get("/health/live").status_code == 200
        relay.cut()
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert (away, is_quick) == ([check], True)
    assert checks[check]["detail"]


@pytest.mark.usefixtures("quick_answers")
def test_while_postgres_is_frozen_every_request_is_answered_within_10_s_and_then_all_is_well(
    settings: Settings, database: Engine
) -> None:
    job_id = add_job(database)
    requests = [
        ("GET", f"/jobs/{job_id}"),
        ("GET", "/jobs"),
        ("GET", "/workers"),
        ("GET", f"/jobs/{job_id}/transcript"),
        ("GET", f"/jobs/{job_id}/events"),
        ("POST", f"/jobs/{job_id}/cancel"),
    ]

    def ask(client: httpx.Client, method: str, path: str) -> tuple[httpx.Response, float]:
        began = time.monotonic()
        return client.request(method, path, timeout=60), time.monotonic() - began

    def all_answered_after_s(client: httpx.Client, threads: ThreadPoolExecutor) -> float:
        wait_until(lambda: client.get(f"/jobs/{job_id}").status_code == 200)
        with frozen_postgres(database):
            asked = [threads.submit(ask, client, *request) for request in requests * 5]
            readiness = client.get("/health/ready")
            answers = [each.result() for each in asked]
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        wait_until(lambda: client.get(f"/jobs/{job_id}").status_code == 200)
        assert client.get(f"/jobs/{job_id}").json()["state"] == "queued"
        for answer, _ in answers:
            assert_problem(answer, 503, "database_unavailable")
        assert len(answers) == 30
        assert readiness.status_code == 503
        assert readiness.json()["checks"]["postgres"]["detail"] == "no answer within 1 second"
        return max(took_s for _, took_s in answers)

    with api(settings) as client, ThreadPoolExecutor(30) as threads:
        # The machine may stand still meanwhile, but not each time.
        assert any(all_answered_after_s(client, threads) < 10 for _ in range(4))


@contextmanager
def refusing_writes(database: Engine, state: str) -> Iterator[None]:
    """Have Postgres refuse what an upload begins with, for this reason (SQLSTATE)."""
    with database.begin() as connection:
        connection.execute(
            text(f"""
                CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{state}'; END $$;
                CREATE TRIGGER refuse BEFORE INSERT ON removals EXECUTE FUNCTION refuse();
            """)
        )
    try:
        yield
    finally:
        with database.begin() as connection:
            connection.execute(text("DROP FUNCTION refuse CASCADE"))


@pytest.mark.parametrize(
    ("state", "code", "detail"),
    [
        ("53100", "database_full", "the disk of Postgres is full"),
        ("25006", "database_read_only", "the database is read-only"),
    ],
)
def test_where_a_database_refuses_jobs_nobody_calls_it_ready(
    settings: Settings, database: Engine, state: str, code: str, detail: str
) -> None:
    with api(settings) as client:
        assert client.get("/ready").status_code == 200
        with refusing_writes(database, state):
            problem = assert_problem(client.post("/jobs", files=FILE), 503, code)
            ready = client.get("/ready")
            assert client.get("/jobs").status_code == 200
    assert problem["detail"] == detail
    assert (ready.status_code, ready.json()["checks"]["postgres"]["detail"]) == (503, detail)


def test_an_object_store_that_takes_no_objects_is_not_ready(
    settings: Settings, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stored(storage)
    monkeypatch.setattr(health, "_WRITE_AGAIN_S", 0.0)

    def refuse(*_: object) -> None:
        raise StorageUnavailable("the object store refuses (AccessDenied)")

    with api(settings) as client:
        assert client.get("/ready").status_code == 200
        with monkeypatch.context() as refusing:
            refusing.setattr(Storage, "put", refuse)
            check = client.get("/ready").json()["checks"]["s3"]
        assert client.get("/ready").status_code == 200
    assert check == {"ok": False, "detail": "the object store refuses (AccessDenied)"}
    assert stored(storage) == before, "what is tried out leaves nothing"


def test_the_log_names_the_cause_of_an_outage_once_and_no_secret(
    settings: Settings, database: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with api(settings) as client, missing_server(settings) as cut_off, api(cut_off) as blind:
        for _ in range(3):
            assert_problem(blind.get("/jobs"), 503, "database_unavailable")
        with refusing_writes(database, "53100"):
            for _ in range(3):
                client.post("/jobs", files=FILE)
    said = [r.getMessage() for r in caplog.records if r.name == "api.outages"]
    assert len(said) == 2
    assert said[0].startswith("503 database_unavailable: Postgres cannot be reached: connection")
    assert said[1] == "503 database_full: the disk of Postgres is full: 53100 refused"
    password = make_url(settings.database_url.get_secret_value()).password
    assert password
    assert password not in caplog.text


@contextmanager
def missing_server(settings: Settings) -> Iterator[Settings]:
    with relayed(settings, "database_url") as (cut_off, relay):
        relay.cut()
        yield cut_off


def test_metrics_and_status_survive_postgres(settings: Settings) -> None:
    with relayed(settings, "database_url") as (cut_off, relay), api(cut_off) as client:
        relay.cut()
        metrics = client.get("/metrics")
        status = client.get("/health/status")
        startup = client.get("/health/startup")
    assert metrics.status_code == status.status_code == 200
    assert "longhand_database_up 0.0" in metrics.text
    assert status.json()["jobs"] is None
    assert (startup.status_code, startup.json()["status"]) == (503, "starting")
