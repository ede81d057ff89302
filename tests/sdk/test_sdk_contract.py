"""The SDK says what the API says: its exceptions, its models, its options, its two clients."""

import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from fastapi import FastAPI
from longhand_sdk import AsyncJob, AsyncLonghand, Job, Longhand, errors, models
from longhand_sdk.async_client import AsyncJobs, AsyncWebhooks
from longhand_sdk.client import Jobs, Webhooks
from longhand_sdk.jobs import JobFilters, JobOptions
from pydantic import BaseModel

from api import problems
from api.app import create_app
from docs import exceptions_table
from harness.repository.documents import blocks
from harness.repository.tree import ROOT
from shared.infra import errors as server_errors
from shared.infra.settings import Settings

ANSWERED_BY_STARLETTE = {
    "not_found": errors.NotFound,
    "method_not_allowed": errors.MethodNotAllowed,
}
OF_THE_DOMAIN = {"job_failed", "audio_refused", "job_canceled"}
"""Codes of ``POST /transcribe``; a job that is waited for has the same exceptions."""
NO_ANSWERS = {"poisonous_input", "outbound_failed", "address_forbidden", "fetch_failed"}
"""Codes of jobs that failed, though their classes have a status."""


def kinds(kind: type[server_errors.LonghandError]) -> list[type[server_errors.LonghandError]]:
    return [each for child in kind.__subclasses__() for each in (child, *kinds(child))]


ALL = kinds(server_errors.LonghandError)
REFUSALS = {
    kind.code: kind.__name__
    for kind in ALL
    if problems.status_of(kind) is not None and kind.code not in OF_THE_DOMAIN | NO_ANSWERS
} | {"database_unavailable": "DatabaseUnavailable"}
FAILURES = {
    kind.code: kind.__name__
    for kind in ALL
    if issubclass(kind, server_errors.PermanentError) or kind.code in OF_THE_DOMAIN | NO_ANSWERS
}
for unseen in ("permanent_error", "delivery_void", "job_failed", "media_error"):
    del FAILURES[unseen]


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_each_code_of_a_refusal_has_an_exception_of_that_name(code: str) -> None:
    assert errors.ANSWERS[code].__name__ == REFUSALS[code]


@pytest.mark.parametrize("code", sorted(FAILURES))
def test_each_code_of_a_failed_job_has_an_exception_of_that_name(code: str) -> None:
    assert errors.FAILURES[code].__name__ == FAILURES[code]


def test_no_exception_is_of_a_code_that_the_server_does_not_have() -> None:
    groups = {"conflict", "access_denied", "unavailable", "unexpected_answer"}
    assert errors.ANSWERS.keys() - REFUSALS.keys() - ANSWERED_BY_STARLETTE.keys() == groups
    assert errors.FAILURES.keys() <= FAILURES.keys()


def test_the_table_of_exceptions_says_what_the_code_says() -> None:
    assert exceptions_table.PAGE.read_text() == exceptions_table.page(), "run `make docs`"


IMPORT = """
import json, sys
import longhand_sdk
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_the_package_needs_httpx_and_pydantic_and_nothing_of_the_platform() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT],
        cwd=ROOT / "sdk",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    imported = set(json.loads(done.stdout)) - sys.stdlib_module_names
    project = tomllib.loads((ROOT / "sdk/pyproject.toml").read_text())["project"]
    assert [name.partition(">")[0] for name in project["dependencies"]] == ["httpx", "pydantic"]
    assert {"httpx", "pydantic"} <= imported
    assert not imported & {"api", "cli", "shared", "worker", "websockets"}


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    app: FastAPI = create_app(Settings())
    found: dict[str, Any] = app.openapi()
    return found


OURS = {
    models.Word: "Word",
    models.RecognizedVoice: "RecognizedVoice",
    models.Speaker: "Speaker",
    models.Segment: "Segment",
    models.Paragraph: "Paragraph",
    models.Transcript: "Transcript",
    models.PartialTranscript: "PartialTranscript",
    models.MissingSpan: "MissingSpan",
    models.JobProgress: "Progress",
    models.Source: "Source",
    models.JobInfo: "Job",
    models.JobPage: "JobPage",
    models.StateEvent: "StateEvent",
    models.SegmentsEvent: "SegmentsEvent",
    models.ProgressEvent: "ProgressEvent",
    models.Accuracy: "Accuracy",
    models.SearchMatch: "SearchMatch",
    models.SearchHit: "SearchHit",
    models.SearchPage: "SearchPage",
    models.DiarizerInfo: "DiarizerInfo",
    models.ModelInfo: "ModelInfo",
    models.ModelList: "ModelList",
    models.WorkerStep: "WorkerStep",
    models.ModelBacklog: "ModelBacklog",
    models.WorkerInfo: "WorkerDetail",
    models.WorkerList: "WorkerList",
    models.ShareLink: "ShareLink",
    models.ShareLinkWithUrl: "ShareLinkWithUrl",
    models.ShareLinkList: "ShareLinkList",
    models.Webhook: "Webhook",
    models.WebhookWithSecret: "WebhookWithSecret",
    models.WebhookList: "WebhookList",
    models.WebhookTest: "TestResult",
    models.DeliveryAttempt: "DeliveryAttempt",
    models.DeliveredEvent: "Event",
    models.Delivery: "Delivery",
    models.DeliveryPage: "DeliveryPage",
}
"""By our models: the server's names of them."""
LEFT_OUT: dict[str, set[str]] = {
    # Options, which the caller has; links, which the SDK makes itself.
    "Job": {"prompt", "hotwords", "vad", "multichannel", "multilingual", "track", "strict", "edits"}
    | {"speakers", "links"},
    "WorkerDetail": {"sandbox"},
}
"""What our models do not carry."""
ADDED = {"StateEvent": {"id"}, "SegmentsEvent": {"id"}}
"""What is not in the server's JSON: the stream has it."""


def test_every_model_is_compared_with_the_servers() -> None:
    named = {
        value
        for value in vars(models).values()
        if inspect.isclass(value)
        and issubclass(value, BaseModel)
        and value.__module__ == models.__name__
    }
    apart = {models.Model, models.Reason, models.WebhookEvent, models._AnyTranscript}
    assert named - apart == OURS.keys()


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_a_model_has_the_members_of_the_servers_and_takes_their_types(
    model: type[BaseModel], schemas: dict[str, Any]
) -> None:
    name = OURS[model]
    theirs = schemas["components"]["schemas"][name]["properties"]
    mine = model.model_json_schema()
    assert mine["properties"].keys() - ADDED.get(name, set()) == theirs.keys() - LEFT_OUT.get(
        name, set()
    )
    for member, schema in mine["properties"].items():
        if member in theirs:
            kinds_there = json_types(theirs[member], schemas["components"]["schemas"])
            assert kinds_there <= json_types(schema, mine.get("$defs", {})), member


def json_types(schema: dict[str, Any], named: dict[str, Any]) -> set[str]:
    """Return the JSON types that a schema allows."""
    if "$ref" in schema:
        return json_types(named[schema["$ref"].rpartition("/")[2]], named)
    if "anyOf" in schema:
        return {kind for each in schema["anyOf"] for kind in json_types(each, named)}
    if "const" in schema or "enum" in schema:
        return {"string"} if schema.get("type", "string") == "string" else {schema["type"]}
    found = {schema["type"]}
    return found | {"integer"} if "number" in found else found


def test_the_options_of_jobs_are_those_of_the_server(schemas: dict[str, Any]) -> None:
    body = schemas["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    if "$ref" in body:
        body = schemas["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    file = {"upload_id", "audio_url", "file_name", "audio_base64"}
    assert get_type_hints(JobOptions).keys() == body["properties"].keys() - file


def test_the_filters_of_jobs_are_those_of_the_server(schemas: dict[str, Any]) -> None:
    parameters = schemas["paths"]["/jobs"]["get"]["parameters"]
    named = {each["name"] for each in parameters if each["in"] == "query"}
    assert get_type_hints(JobFilters).keys() == named - {"limit", "cursor"}


@pytest.mark.parametrize(
    ("blocking", "awaited"),
    [(Longhand, AsyncLonghand), (Job, AsyncJob), (Jobs, AsyncJobs), (Webhooks, AsyncWebhooks)],
)
def test_the_two_clients_have_the_same_methods(blocking: type, awaited: type) -> None:
    def methods(kind: type) -> dict[str, str]:
        return {
            name: re.sub(r"Async|Awaitable", "", str(inspect.signature(value))).partition(" -> ")[0]
            for name, value in vars(kind).items()
            if inspect.isfunction(value) and not name.startswith("_")
        }

    ours, theirs = methods(blocking), methods(awaited)
    for only_async in ("live", "aclose"):
        theirs.pop(only_async, None)
    ours.pop("close", None)
    assert ours == theirs


def test_the_first_sample_of_the_readme_is_short_and_typed(tmp_path: Path) -> None:
    """With the settings of `make check`, which are strict, and what that has cached."""
    first = next(block for block in blocks("README.md") if block.language == "python")
    assert "from longhand_sdk import Longhand" in first.text
    assert len(first.text.splitlines()) <= 5
    sample = tmp_path / "sample.py"
    sample.write_text(first.text)
    command = [sys.executable, "-m", "mypy", "--strict", str(sample)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
