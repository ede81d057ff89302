"""The OpenAPI document is true: Schemathesis tries it against the API and finds nothing."""

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR
from sqlalchemy import Engine

from api.app import create_app, end_waits
from harness.clients.tus import OFFSET_STREAM
from harness.database.statements import seen_by
from harness.jobs.ended import cancel, fail, lose_audio
from harness.jobs.equal import compute, submit
from harness.jobs.job_store import add_batch, claim, prepare, transcribe
from harness.jobs.webhook_store import add_hook, deliveries, on_loopback
from harness.peers.receivers import receiving
from harness.repository.tree import ROOT
from harness.servers.api_server import api, assert_problem, serving
from shared.infra.outbound import Outbound
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import ALL_SCOPES
from shared.store.jobs.delete import delete_job
from shared.store.objects.keys import source_key
from shared.store.retention import expire_transcripts

CLIENT = httpx.Client(timeout=120)
PROBES = ("/ready", "/health/ready", "/health/startup")
CONFIGURATION = ROOT / "tests/harness/clients/schemathesis.toml"


def make_jobs(database: Engine, storage: Storage) -> list[str]:
    """Make a job in each state that answers differ by; return their ids."""

    def add() -> UUID:
        job_id = submit(database, fingerprint=None)
        storage.put(source_key(job_id), b"x")
        return job_id

    deleted = add()
    compute(database, deleted)
    assert expire_transcripts(database, keep_s=0, limit=100)
    without_audio = add()
    fail(database, without_audio)
    lose_audio(database, "failed")

    queued, running, succeeded, failed, canceled = (add() for _ in range(5))
    prepare(database, running, 2)
    transcribe(database, claim(database, running, "transcribe"))
    compute(database, succeeded, "hello there", "who is it")
    fail(database, failed)
    cancel(database, canceled)
    jobs = deleted, without_audio, queued, running, succeeded, failed, canceled
    return [str(job) for job in jobs]


def make_uploads(url: str) -> list[str]:
    """Make an upload that is complete and two that are open, one of each kind; return the ids."""
    ids = []
    for content in (b"abc", b""):
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "3", **OFFSET_STREAM}
        begun = CLIENT.post(f"{url}/uploads/tus", headers=headers, content=content)
        ids.append(begun.raise_for_status().headers["location"].rpartition("/")[2])
    begun = CLIENT.post(f"{url}/uploads", json={"bytes": 3})
    return [*ids, begun.raise_for_status().json()["id"]]


def nowhere(host: str) -> list[str]:
    """Find no host: nothing leaves this machine."""
    raise OSError


@dataclass(frozen=True)
class Served:
    """The API, with something in each of its tables."""

    url: str
    key: str
    delivery_id: str
    ids: Mapping[str, Sequence[str]]
    """By their names in ``CONFIGURATION``."""


@pytest.fixture(scope="module")
def served(module_settings: Settings, pool: Engine, storage: Storage) -> Iterator[Served]:
    app = create_app(on_loopback(module_settings).model_copy(update={"auth": "on"}))
    _, key = create_key(pool, "default", "of the contract", ALL_SCOPES)
    CLIENT.headers["X-API-Key"] = key
    with receiving() as receiver, serving(app) as url:
        hooks = [str(add_hook(pool, receiver.url)[0]) for _ in range(4)]
        jobs = make_jobs(pool, storage)
        delivery = next(each for each in deliveries(pool) if str(each.endpoint_id) == hooks[0])
        CLIENT.get(f"{url}/health/live").raise_for_status()
        outbound = Outbound(allow_http=True, allow=["127.0.0.0/8"], resolver=nowhere)
        app.state.resources = replace(app.state.resources, outbound=outbound)
        end_waits(app)  # nobody works here, so no wait for a job's end would be answered
        ids = {
            "jobs": jobs,
            "batches": [str(add_batch(pool, 2))],
            "removable_jobs": make_jobs(pool, storage),
            "webhooks": hooks[:1],
            "removable_webhooks": hooks[1:],
            "uploads": make_uploads(url),
            "removable_uploads": make_uploads(url),
        }
        yield Served(url, key, str(delivery.id), ids)


def operations_of(url: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and description of each operation."""
    for path, operations in CLIENT.get(f"{url}/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            yield method, path, operation


def run_schemathesis(served: Served, path: Path, *options: str) -> None:
    """Run it as its command line; fail with all that it says if it finds anything."""
    configuration = path / "schemathesis.toml"
    dictionaries = [
        f"\n[dictionaries.{name}]\nvalues = {json.dumps(ids)}\n" for name, ids in served.ids.items()
    ]
    configuration.write_text(CONFIGURATION.read_text() + "".join(dictionaries))
    command = Path(sys.executable).with_name("schemathesis")
    # The document is made when it is first asked for; Schemathesis waits 10 s for it at most.
    CLIENT.get(f"{served.url}/openapi.json").raise_for_status()
    run = subprocess.run(
        [command, "--config-file", configuration, "run", f"{served.url}/openapi.json", *options],
        cwd=path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "tests"),
            "API_KEY": served.key,
            "DELIVERY_ID": served.delivery_id,
            "COLUMNS": "160",
        },
        text=True,
        capture_output=True,
        check=False,
    )
    if run.returncode != 0:
        pytest.fail(run.stdout + run.stderr, pytrace=False)


def test_the_document_is_valid_openapi_and_describes_each_operation(served: Served) -> None:
    document = CLIENT.get(f"{served.url}/openapi.json").json()
    assert document["openapi"].startswith("3.1.")
    assert [str(error) for error in OPENAPI_31_VALIDATOR.iter_errors(document)] == []
    for method, path, operation in operations_of(served.url):
        assert operation.keys() >= {"operationId", "summary", "description", "tags"}, (method, path)
        problems = {
            status
            for status, answer in operation["responses"].items()
            if "application/problem+json" in answer.get("content", {})
        }
        assert problems >= {"422", "500"}, (method, path)
        assert "default" not in operation["responses"], (method, path)


def test_head_is_answered_as_get_without_the_body(served: Served) -> None:
    ids = {"job_id": served.ids["jobs"][0], "webhook_id": served.ids["webhooks"][0]}
    ids["batch_id"] = served.ids["batches"][0]
    ids["delivery_id"] = served.delivery_id
    ids["upload_id"] = served.ids["uploads"][1]
    ids["tenant_id"] = "default"
    paths = [path for method, path, _ in operations_of(served.url) if method == "get"]
    for path in [*paths, "/ready", "/docs", "/openapi.json", "/live"]:
        url = served.url + path.format(**ids)
        got, headed = CLIENT.get(url), CLIENT.head(url)
        told = "content-type", "location", "allow"
        # On a busy machine a probe may come too late once.
        statuses = (200, 503) if path in PROBES else (got.status_code,)
        assert headed.status_code in statuses, path
        assert [headed.headers.get(name) for name in told] == [
            got.headers.get(name) for name in told
        ], path
        assert headed.content == b""
    assert CLIENT.head(f"{served.url}/nonesuch").status_code == 404


def test_head_of_a_stream_ends_at_once(module_settings: Settings, pool: Engine) -> None:
    job_id = submit(pool, fingerprint=None)
    with api(module_settings) as client:
        answer = client.head(f"/jobs/{job_id}/events")
        metrics = client.get("/metrics").text
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert 'method="HEAD",route="/jobs/{job_id}/events",status="200"' in metrics


def test_allow_lists_all_methods_of_a_path(served: Served) -> None:
    documented: dict[str, set[str]] = defaultdict(set)
    for method, path, _ in operations_of(served.url):
        documented[path].add(method.upper())
    for path, methods in documented.items():
        expected = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
        url = served.url + re.sub(r"{\w+}", "x", path)
        options, refused = CLIENT.options(url), CLIENT.request("TRACE", url)
        assert (options.status_code, options.content) == (204, b""), path
        assert_problem(refused, 405, "method_not_allowed")
        for answer in (options, refused):
            assert set(answer.headers["allow"].split(", ")) == expected, path
        for method in {"GET", "PUT", "PATCH", "DELETE", "POST"} - methods:
            assert_problem(CLIENT.request(method, url), 405, "method_not_allowed")
        if "GET" not in methods:
            assert CLIENT.head(url).status_code == 405, path
    assert_problem(CLIENT.options(f"{served.url}/nonesuch"), 404, "not_found")


@pytest.mark.parametrize("path", ["/jobs", "/transcribe"])
def test_refusals_of_an_unknown_and_an_open_upload_are_documented(
    served: Served, path: str
) -> None:
    document = CLIENT.get(f"{served.url}/openapi.json").json()
    described = document["paths"][path]["post"]["responses"]
    uploads = {"upload_not_found": str(UUID(int=0)), "upload_incomplete": served.ids["uploads"][1]}
    for code, upload in uploads.items():
        answer = CLIENT.post(f"{served.url}{path}", json={"upload_id": upload})
        assert_problem(answer, answer.status_code, code)
        assert f"`{code}`" in described[str(answer.status_code)]["description"]


def test_a_job_whose_transcript_goes_while_it_is_read_is_answered_as_it_is_then(
    served: Served, pool: Engine
) -> None:
    """The transcript is removed between the job's row and the segments, by a second connection."""
    for_removal = [submit(pool, fingerprint=None) for _ in range(2)]
    for job_id in for_removal:
        compute(pool, job_id)
    expired, deleted = for_removal

    def get(job_id: UUID, act: Callable[[], object]) -> httpx.Response:
        acts = [act]

        def before(statement: str, _connection: object) -> None:
            if "FROM transcript_segments" in statement:
                while acts:
                    acts.pop()()

        with seen_by(before):
            return CLIENT.get(f"{served.url}/jobs/{job_id}?include=words")

    gone = get(deleted, lambda: delete_job(pool, "default", deleted, max_attempts=2))
    assert_problem(gone, 404, "job_not_found")
    kept = get(expired, lambda: expire_transcripts(pool, keep_s=0, limit=100))
    assert kept.status_code == 200
    assert kept.json()["transcript"] is None
    assert kept.json()["transcript_deleted_at"] is not None


# Last in this file, as it changes what is there. The machine may be busy: it takes 20 s of a core.
@pytest.mark.timeout(600)
def test_schemathesis_finds_no_request_whose_answer_the_document_does_not_foretell(
    served: Served, tmp_path: Path
) -> None:
    run_schemathesis(served, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_schemathesis_finds_nothing_with_many_more_requests(served: Served, tmp_path: Path) -> None:
    run_schemathesis(served, tmp_path, "--max-examples", "300")
