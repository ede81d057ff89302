"""What the API tells of itself: health, readiness, its workers and models, metrics."""

import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from sqlalchemy import Engine, text

from harness.jobs.job_store import add_job, prepare
from harness.programs.workers import wait_until
from harness.servers.api_server import api, relayed
from shared.infra.settings import Settings
from shared.models.options import ResolvedOptions
from shared.store.workers import WorkerEntry, announce, withdraw

WORKER = WorkerEntry(
    id="w1",
    role="model",
    model="starter",
    queues=["model.starter"],
    slots=2,
    state="ready",
    device="cpu",
    dtype="float32",
    version="test",
    load_s=0.1,
    warm_up_s=0.01,
)


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    with api(settings) as client:
        yield client


def test_readiness_tells_of_each_model_how_far_its_workers_are(
    client: httpx.Client, database: Engine
) -> None:
    loading = replace(WORKER, id="w2", model="whisper-base", state="loading")
    announce(database, WORKER)
    announce(database, loading)
    announce(database, replace(WORKER, id="w3", state="loading"))  # a second one of its model
    for path in ("/ready", "/health/ready"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert set(answer.json()["checks"]) == {"postgres", "redis", "s3"}
        models = answer.json()["models"]
        assert models["starter"] == "ready"
        assert models["whisper-base"] == "loading"
        assert models["whisper-tiny"] == "absent"
        assert "oracle" not in models
    announce(database, replace(loading, state="ready"))
    assert client.get("/ready").json()["models"]["whisper-base"] == "ready"
    withdraw(database, loading.id)
    assert client.get("/ready").json()["models"]["whisper-base"] == "absent"


def test_a_worker_that_missed_two_heartbeats_is_told_as_absent_everywhere(
    settings: Settings, database: Engine
) -> None:
    announce(database, WORKER)
    job_id = add_job(database, options=ResolvedOptions(model="starter", vad="off"))
    prepare(database, job_id, 1)

    def told(client: httpx.Client) -> list[object]:
        models = client.get("/models").json()["models"]
        return [
            client.get("/ready").json()["models"]["starter"],
            [model["state"] for model in models if model["id"] == "starter"],
            len(client.get("/workers").json()["workers"]),
            "longhand_workers{" in client.get("/metrics").text,
            client.get(f"/jobs/{job_id}").json()["waiting_for"] is None,
        ]

    assert settings.live_s == 2 * settings.heartbeat_s < settings.lease_s
    # So long that nobody misses a second one while the API is asked.
    slow = settings.model_copy(update={"heartbeat_s": 60.0, "lease_s": 180.0})
    silent = text("UPDATE workers SET last_seen_at = now() - make_interval(secs => :s)")
    for silent_s, expected in [
        (slow.heartbeat_s, ["ready", ["ready"], 1, True, True]),
        (2 * slow.heartbeat_s, ["absent", ["absent"], 0, False, False]),
    ]:
        with database.begin() as connection:
            connection.execute(silent, {"s": silent_s})
        with api(slow) as client:
            assert told(client) == expected


def test_the_models_on_offer_tell_how_far_their_workers_are(
    client: httpx.Client, database: Engine
) -> None:
    announce(database, WORKER)
    announce(database, replace(WORKER, id="w2", model="whisper-base", state="loading"))
    states = {model["id"]: model["state"] for model in client.get("/models").json()["models"]}
    assert states["starter"] == "ready"
    assert states["whisper-base"] == "loading"
    assert states["whisper-tiny"] == "absent"
    assert "oracle" not in states


def test_status_and_metrics_tell_jobs_queues_and_workers(
    client: httpx.Client, database: Engine
) -> None:
    announce(database, WORKER)
    add_job(database)

    status = client.get("/health/status").json()
    metrics = client.get("/metrics").text

    assert status["jobs"]["queued"] == 1
    (queue,) = status["queues"]
    assert (queue["queue"], queue["queued_steps"], queue["running_steps"]) == ("cpu", 1, 0)
    (worker,) = status["workers"]
    assert (worker["id"], worker["slots"], worker["state"]) == ("w1", 2, "ready")
    assert (worker["device"], worker["dtype"]) == ("cpu", "float32")
    assert status["uptime_s"] >= 0
    assert "longhand_database_up 1.0" in metrics
    assert 'longhand_jobs{state="queued"} 1.0' in metrics
    assert 'longhand_steps{queue="cpu",state="queued"} 1.0' in metrics
    assert 'longhand_workers{model="starter",role="model"} 1.0' in metrics


def test_requests_are_counted_by_template_not_by_what_clients_invent(
    client: httpx.Client,
) -> None:
    client.get("/jobs/one")
    client.get("/jobs/two")
    client.get("/invented")
    client.request("INVENTED", "/jobs")
    client.post("/jobs", files={"file": ("a.wav", bytes(1000))})

    metrics = client.get("/metrics").text

    assert (
        'longhand_http_requests_total{method="GET",route="/jobs/{job_id}",status="404"} 2.0'
        in metrics
    )
    assert 'route="unmatched",status="404"' in metrics
    assert "nvented" not in metrics
    assert 'longhand_http_request_duration_seconds_count{method="POST",route="/jobs"}' in metrics
    assert float(metrics.partition("\nlonghand_upload_bytes_total ")[2].split()[0]) > 1000


def test_two_applications_in_one_process_count_apart(settings: Settings) -> None:
    with api(settings) as one, api(settings) as other:
        one.get("/models")
        assert 'route="/models"' in one.get("/metrics").text
        assert 'route="/models"' not in other.get("/metrics").text


def test_startup_waits_for_the_schema(settings: Settings, database: Engine) -> None:
    with database.begin() as connection:
        version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        connection.execute(text("UPDATE alembic_version SET version_num = '0100'"))
    try:
        with api(settings) as client:
            assert client.get("/health/live").status_code == 200
            assert client.get("/health/startup").status_code == 503
            assert client.get("/ready").json()["checks"]["postgres"]["ok"] is False
            restore(database, version)
            assert client.get("/health/startup").json()["status"] == "started"
            assert client.get("/ready").status_code == 200
    finally:
        restore(database, version)


def restore(database: Engine, version: str) -> None:
    with database.begin() as connection:
        connection.execute(
            text("UPDATE alembic_version SET version_num = :version"), {"version": version}
        )


def test_the_root_names_the_service(client: httpx.Client) -> None:
    service = client.get("/").json()
    assert service["name"] == "Longhand"
    for path in service["links"].values():
        assert client.get(path).status_code == 200


def test_the_root_tells_the_model_that_a_plain_job_gets(
    settings: Settings, database: Engine
) -> None:
    announce(database, WORKER)
    only_served = settings.model_copy(update={"default_model": "", "on_demand_models": ""})
    with api(only_served) as client:
        # It waits for Postgres for a moment only, so a busy machine may tell nothing at first.
        wait_until(lambda: client.get("/").json()["model"] == "starter")
        service = client.get("/").json()
    assert service["service"] == service["name"]
    assert service["status"] == "ok"
    assert service["endpoints"]["transcribe"] == "/transcribe"
    assert set(service) >= {"model", "device", "language", "version"}


def test_health_tells_whether_a_model_is_loaded_and_in_which_language(
    client: httpx.Client, database: Engine
) -> None:
    def told(status: str, model_loaded: bool, language: str | None) -> bool:
        return client.get("/health").json() | {"timestamp": 0} == {
            "timestamp": 0,
            "status": status,
            "model_loaded": model_loaded,
            "language": language,
        }

    announce(database, replace(WORKER, state="loading"))
    wait_until(lambda: told("initializing", False, None))
    announce(database, WORKER)
    wait_until(lambda: told("healthy", True, "en"))
    ready = client.get("/ready").json()
    assert (ready["model_loaded"], ready["language"]) == (True, "en")
    announce(database, replace(WORKER, id="w2", model="whisper-base"))
    wait_until(lambda: told("healthy", True, None))
    before = time.time()
    assert before <= client.get("/health").json()["timestamp"] <= time.time()


def test_a_model_that_was_unloaded_is_served_and_said_to_be_unloaded(
    client: httpx.Client, database: Engine
) -> None:
    announce(database, replace(WORKER, state="unloaded"))
    wait_until(
        lambda: (
            client.get("/health").json() | {"timestamp": 0}
            == {"timestamp": 0, "status": "healthy", "model_loaded": False, "language": "en"}
        )
    )
    assert client.get("/health/ready").json()["models"]["starter"] == "unloaded"
    states = {each["id"]: each["state"] for each in client.get("/models").json()["models"]}
    assert states["starter"] == "unloaded"
    (worker,) = client.get("/workers").json()["workers"]
    assert (worker["state"], worker["slots"]) == ("unloaded", 2)

    announce(database, replace(WORKER, id="w2", state="loading"))
    assert client.get("/health/ready").json()["models"]["starter"] == "loading"
    announce(database, replace(WORKER, id="w3"))
    assert client.get("/health/ready").json()["models"]["starter"] == "ready"


def test_health_is_told_although_postgres_is_frozen(settings: Settings) -> None:
    with relayed(settings, "database_url") as (behind, relay), api(behind) as client:
        relay.mute()
        answer = client.get("/health")
        assert answer.status_code == 200
        assert (answer.json()["status"], answer.json()["model_loaded"]) == ("healthy", None)
        assert client.get("/").json()["model"] is None


def test_the_short_paths_answer_as_the_long_ones(client: httpx.Client) -> None:
    short, long = (client.get(path).json() for path in ("/ready", "/health/ready"))
    assert short.pop("timestamp") <= long.pop("timestamp")
    assert short == long
