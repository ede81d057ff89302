"""Health, metrics, models, and the document that describes the API."""

import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import httpx
import pytest
from apiserver import api, assert_problem, confined, relayed, serving
from jobstore import add_job, prepare
from processes import environment, wait_until
from sqlalchemy import Engine, text

from api.app import create_app
from cli.embedded.ports import free_ports
from shared.infra.open_files import OPEN_FILES
from shared.infra.settings import Settings
from shared.models.options import JobOptions, ResolvedOptions
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

ROUTES = {
    ("post", "/jobs"): "submit_job",
    ("post", "/jobs/batch"): "submit_jobs",
    ("get", "/batches/{batch_id}"): "show_batch",
    ("get", "/jobs"): "show_jobs",
    ("get", "/jobs/{job_id}"): "show_job",
    ("delete", "/jobs/{job_id}"): "delete_job",
    ("get", "/jobs/{job_id}/transcript"): "show_transcript",
    ("get", "/jobs/{job_id}/changes"): "show_changes",
    ("get", "/jobs/{job_id}/speakers"): "show_speakers",
    ("patch", "/jobs/{job_id}/speakers"): "change_speakers",
    ("post", "/jobs/{job_id}/changes"): "correct_transcript",
    ("post", "/jobs/{job_id}/changes/undo"): "undo_correction",
    ("post", "/jobs/{job_id}/changes/redo"): "redo_correction",
    ("get", "/jobs/{job_id}/audio"): "show_audio",
    ("get", "/jobs/{job_id}/peaks"): "show_peaks",
    ("get", "/events"): "stream_jobs",
    ("get", "/search"): "search_transcripts",
    ("get", "/jobs/{job_id}/manifest"): "show_manifest",
    ("get", "/jobs/{job_id}/events"): "stream_events",
    ("post", "/jobs/{job_id}/cancel"): "cancel_job",
    ("post", "/jobs/{job_id}/retry"): "retry_job",
    ("post", "/jobs/{job_id}/reference"): "add_reference",
    ("post", "/uploads"): "begin_upload",
    ("get", "/uploads/{upload_id}"): "show_upload",
    ("get", "/uploads/{upload_id}/parts"): "show_parts",
    ("post", "/uploads/{upload_id}/complete"): "complete_upload",
    ("delete", "/uploads/{upload_id}"): "delete_upload",
    ("post", "/uploads/tus"): "begin_tus_upload",
    ("get", "/uploads/tus/{upload_id}"): "show_tus_upload",
    ("patch", "/uploads/tus/{upload_id}"): "append_to_tus_upload",
    ("delete", "/uploads/tus/{upload_id}"): "terminate_tus_upload",
    ("post", "/webhooks"): "add_webhook",
    ("get", "/webhooks"): "show_webhooks",
    ("get", "/webhooks/{webhook_id}"): "show_webhook",
    ("patch", "/webhooks/{webhook_id}"): "change_webhook",
    ("delete", "/webhooks/{webhook_id}"): "remove_webhook",
    ("post", "/webhooks/{webhook_id}/rotate"): "rotate_secret",
    ("post", "/webhooks/{webhook_id}/test"): "test_webhook",
    ("get", "/webhooks/deliveries"): "show_deliveries",
    ("post", "/webhooks/deliveries/{delivery_id}/replay"): "replay_delivery",
    ("get", "/accuracy/stats"): "show_accuracy",
    ("get", "/usage"): "show_usage",
    ("post", "/transcribe"): "transcribe",
    ("get", "/models"): "show_models",
    ("get", "/workers"): "show_workers",
    ("get", "/"): "show_service",
    ("get", "/health"): "show_health",
    ("get", "/health/live"): "show_liveness",
    ("get", "/health/ready"): "show_readiness",
    ("get", "/health/startup"): "show_startup",
    ("get", "/health/status"): "show_status",
    ("get", "/metrics"): "show_metrics",
    ("post", "/tokens"): "issue_token",
    ("get", "/admin/tenants"): "show_tenants",
    ("post", "/admin/tenants"): "add_tenant",
    ("get", "/admin/tenants/{tenant_id}/limits"): "show_limits",
    ("patch", "/admin/tenants/{tenant_id}/limits"): "set_limits",
    ("get", "/admin/keys"): "show_keys",
    ("post", "/admin/keys"): "add_key",
    ("delete", "/admin/keys/{key_id}"): "revoke_key",
}
"""Operation ids by method and path: generated clients name their methods after them."""


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
    client: httpx.Client, settings: Settings, database: Engine
) -> None:
    announce(database, WORKER)
    job_id = add_job(database, options=ResolvedOptions(model="starter", vad="off"))
    prepare(database, job_id, 1)

    def told() -> list[object]:
        models = client.get("/models").json()["models"]
        return [
            client.get("/ready").json()["models"]["starter"],
            [model["state"] for model in models if model["id"] == "starter"],
            len(client.get("/workers").json()["workers"]),
            "longhand_workers{" in client.get("/metrics").text,
            client.get(f"/jobs/{job_id}").json()["waiting_for"] is None,
        ]

    assert settings.live_s == 2 * settings.heartbeat_s < settings.lease_s
    silent = text("UPDATE workers SET last_seen_at = now() - make_interval(secs => :s)")
    for silent_s, expected in [
        (settings.heartbeat_s, ["ready", ["ready"], 1, True, True]),
        (2 * settings.heartbeat_s, ["absent", ["absent"], 0, False, False]),
    ]:
        with database.begin() as connection:
            connection.execute(silent, {"s": silent_s})
        assert told() == expected


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
        connection.execute(text("UPDATE alembic_version SET version_num = 'older'"))
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


def test_models_are_listed_without_the_hidden_ones(client: httpx.Client) -> None:
    models = {model["id"]: model for model in client.get("/models").json()["models"]}
    assert models["starter"]["languages"] == ["en"]
    assert "oracle" not in models
    answer = client.post("/jobs", data={"model": "oracle"}, files={"file": ("a", b"x")})
    assert answer.status_code == 202


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


def test_health_is_told_although_postgres_is_frozen(settings: Settings) -> None:
    with relayed(settings, "database_url") as (behind, relay), api(behind) as client:
        relay.mute()
        answer = client.get("/health")
        assert answer.status_code == 200
        assert (answer.json()["status"], answer.json()["model_loaded"]) == ("healthy", None)
        assert client.get("/").json()["model"] is None


def test_unknown_paths_and_methods_are_problems(client: httpx.Client) -> None:
    assert_problem(client.get("/nonesuch"), 404, "not_found")
    answer = client.delete("/models")
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


def test_a_request_id_is_taken_over_if_harmless(client: httpx.Client) -> None:
    def echoed(sent: str) -> str:
        return client.get("/models", headers={"x-request-id": sent}).headers["x-request-id"]

    assert echoed("trace-1:2.3") == "trace-1:2.3"
    assert echoed("a b") != "a b"
    assert echoed("x" * 500) != "x" * 500


def test_an_unexpected_error_tells_nothing_of_the_inside(settings: Settings) -> None:
    app = create_app(confined(settings))

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("secret detail")

    with serving(app) as url:
        answer = httpx.get(f"{url}/broken")
        metrics = httpx.get(f"{url}/metrics").text
    assert_problem(answer, 500, "internal_error")
    assert "secret" not in answer.text
    assert 'route="/broken",status="500"' in metrics


def test_the_openapi_document_describes_each_route_and_its_problems() -> None:
    document = create_app(Settings()).openapi()

    described = {
        (method, path) for path, methods in document["paths"].items() for method in methods
    }
    assert described == ROUTES.keys()
    form = document["paths"]["/jobs"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert set(form["schema"]["properties"]) == {"file", *JobOptions.model_fields}
    assert form["schema"]["required"] == ["file"]
    problem = {"$ref": "#/components/schemas/Problem"}
    for status in ("404", "408", "413", "415", "422", "500", "503"):
        response = document["paths"]["/jobs"]["post"]["responses"][status]
        assert response["content"]["application/problem+json"]["schema"] == problem
    assert "HTTPValidationError" not in str(document)
    for reference in references(document):
        assert reference.rpartition("/")[2] in document["components"]["schemas"], reference
    assert "code" in document["components"]["schemas"]["Problem"]["required"]


def test_each_operation_is_described_once_and_in_words() -> None:
    document = create_app(Settings()).openapi()
    operations = {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }

    assert {key: each["operationId"] for key, each in operations.items()} == ROUTES
    summaries = [each["summary"] for each in operations.values()]
    assert len(set(summaries)) == len(summaries)
    for (method, path), operation in operations.items():
        summary = operation["summary"]
        assert summary != operation["operationId"].replace("_", " ").title(), (method, path)
        assert re.fullmatch(r"[A-Z][a-z]+ [a-z][^._]*", summary), (method, path, summary)
        assert operation["description"], (method, path)
    described = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert all(described.values())
    assert described.keys() == {tag for each in operations.values() for tag in each["tags"]}


def test_the_short_paths_answer_as_the_long_ones(client: httpx.Client) -> None:
    short, long = (client.get(path).json() for path in ("/ready", "/health/ready"))
    assert short.pop("timestamp") <= long.pop("timestamp")
    assert short == long


def references(node: object) -> Iterator[str]:
    """Yield every schema reference in a document."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_documentation_is_read_without_any_other_server(
    client: httpx.Client, page: str
) -> None:
    sources = re.findall(r'(?:src|href)="([^"]+)"', client.get(page).text)
    assert sources
    for source in sources:
        assert source.startswith("/"), source
        assert client.get(source).status_code == 200


def test_the_process_raises_its_limit_of_open_files_as_far_as_it_may(settings: Settings) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd, port = listener.fileno(), listener.getsockname()[1]
        lower = ["sh", "-c", f'ulimit -S -n {min(soft, 1000)}; exec "$@"', "sh"]
        with subprocess.Popen(
            [*lower, sys.executable, "-m", "api", "--fd", str(fd)],
            env=environment(settings),
            pass_fds=[fd],
        ) as process:
            httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=120).raise_for_status()
            raised, _ = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
            process.terminate()
    assert raised == (OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard))


@pytest.mark.parametrize("named", ["by the settings", "by an argument"])
def test_the_process_listens_where_it_is_told_to(settings: Settings, named: str) -> None:
    first, second = free_ports(2)
    variables = environment(settings.model_copy(update={"listen_port": first}))
    argued = named == "by an argument"
    arguments = ["--port", str(second)] if argued else []
    with subprocess.Popen([sys.executable, "-m", "api", *arguments], env=variables) as process:

        def answers() -> bool:
            with suppress(httpx.TransportError):
                url = f"http://127.0.0.1:{second if argued else first}/health/live"
                return httpx.get(url).is_success
            return False

        try:
            wait_until(answers)
        finally:
            process.terminate()
