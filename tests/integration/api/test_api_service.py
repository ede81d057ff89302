"""The document that describes the API, its errors, and the process that serves it."""

import re
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from cli.embedded.ports import free_ports
from harness.programs.forked import Forked
from harness.programs.workers import environment, wait_until
from harness.servers import patient
from harness.servers.api_server import api, assert_problem, confined, serving
from shared.infra.open_files import OPEN_FILES
from shared.infra.settings import Settings
from shared.models.options import JobOptions

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
    ("post", "/jobs/{job_id}/voices"): "add_voice",
    ("get", "/voices"): "show_voices",
    ("delete", "/voices/{voice_id}"): "remove_voice",
    ("post", "/jobs/{job_id}/changes"): "correct_transcript",
    ("post", "/jobs/{job_id}/changes/undo"): "undo_correction",
    ("post", "/jobs/{job_id}/changes/redo"): "redo_correction",
    ("get", "/jobs/{job_id}/shares"): "show_shares",
    ("post", "/jobs/{job_id}/shares"): "share_job",
    ("delete", "/jobs/{job_id}/shares/{share_id}"): "revoke_share",
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
    ("get", "/accuracy/days"): "show_accuracy_by_day",
    ("get", "/usage"): "show_usage",
    ("post", "/transcribe"): "transcribe",
    ("get", "/models"): "show_models",
    ("get", "/workers"): "show_workers",
    ("post", "/workers/{worker_id}/drain"): "drain_worker",
    ("post", "/workers/{worker_id}/resume"): "resume_worker",
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


def test_models_are_listed_without_the_hidden_ones(client: httpx.Client) -> None:
    models = {model["id"]: model for model in client.get("/models").json()["models"]}
    assert models["starter"]["languages"] == ["en"]
    assert "oracle" not in models
    (diarizer,) = client.get("/models").json()["diarizers"]
    assert diarizer.pop("description").startswith("Tells speakers apart")
    expected = {"id": "campplus-seg3", "engine": "campplus-seg3", "default": False}
    assert diarizer == {**expected, "state": "absent"}
    answer = client.post("/jobs", data={"model": "oracle"}, files={"file": ("a", b"x")})
    assert answer.status_code == 202


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
        answer = patient.get(f"{url}/broken")
        metrics = patient.get(f"{url}/metrics").text
    assert_problem(answer, 500, "internal_error")
    assert "secret" not in answer.text
    assert answer.headers["connection"] == "close"
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
def test_the_process_listens_where_it_is_told_to(
    settings: Settings, tmp_path: Path, named: str
) -> None:
    first, second = free_ports(2)
    variables = environment(settings.model_copy(update={"listen_port": first}))
    argued = named == "by an argument"
    arguments = ["--port", str(second)] if argued else []
    process = Forked("api", arguments, env=variables, stdout=tmp_path / "api.log")

    def answers() -> bool:
        with suppress(httpx.TransportError):
            url = f"http://127.0.0.1:{second if argued else first}/health/live"
            return patient.get(url).is_success
        return False

    try:
        wait_until(answers)
    finally:
        process.kill()
        process.wait()
