"""Query parameters that there are not: told, not passed over."""

from collections.abc import Iterator
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI

from api.app import create_app
from api.faces import install_faces
from api.parameters import refuse_unknown_parameters
from api.problems import error_response
from harness.clients.swagger import Operation, operations
from harness.servers import patient
from harness.servers.api_server import api, assert_problem, serving
from shared.infra.settings import Settings

IDS = dict.fromkeys(
    (
        *("job_id", "share_id", "batch_id", "webhook_id", "delivery_id", "key_id", "upload_id"),
        *("voice_id", "tenant_id", "worker_id"),
    ),
    "x",
)
ALIASES = [Operation({}, "get", path, {}) for path in ("/health", "/ready")]


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client


@pytest.mark.parametrize(
    "operation",
    [*operations(create_app(Settings()).openapi()), *ALIASES],
    ids=lambda operation: f"{operation.method} {operation.path}",
)
def test_every_endpoint_refuses_a_parameter_that_it_does_not_have(
    client: httpx.Client, operation: Operation
) -> None:
    answer = client.request(operation.method, operation.path.format(**IDS), params={"x": "1"})
    problem = assert_problem(answer, 422, "invalid_request")
    assert problem["detail"].startswith("unknown query parameters: 'x'; ")


@pytest.mark.parametrize(
    ("method", "path", "detail"),
    [
        (
            "GET",
            "/jobs?limt=5&y=",
            (
                "'limt' (did you mean 'limit'?), 'y'; this endpoint has limit, state, model, "
                "language, batch_id, created_from, created_before, metadata, cursor"
            ),
        ),
        (
            "GET",
            "/jobs/x/transcript?response_format=srt",
            (
                "'response_format' (did you mean 'format'?); "
                "this endpoint has format, partial, original, max_line_width, max_line_count, "
                "max_words_per_cue"
            ),
        ),
        (
            "GET",
            "/jobs/x?wiat=5",
            "'wiat' (did you mean 'wait'?); this endpoint has wait, include, text",
        ),
        ("GET", "/models?limit=5", "'limit'; this endpoint has none"),
        (
            "POST",
            "/webhooks?model=tiny",
            "'model'; this endpoint has none: what it takes is sent in the body",
        ),
    ],
)
def test_what_was_meant_and_what_there_is_are_told(
    client: httpx.Client, method: str, path: str, detail: str
) -> None:
    code = "misnamed_field" if "did you mean" in detail else "invalid_request"
    problem = assert_problem(client.request(method, path), 422, code)
    assert problem["detail"] == f"unknown query parameters: {detail}"


def test_of_very_many_unknown_parameters_the_first_are_told(client: httpx.Client) -> None:
    answer = client.get("/models", params={f"p{n}": "" for n in range(1000)})
    detail = assert_problem(answer, 422, "invalid_request")["detail"]
    assert "'p0', 'p1', " in detail
    assert len(detail) < 200


@pytest.mark.usefixtures("database")
def test_known_parameters_are_taken_as_before(client: httpx.Client) -> None:
    assert client.get("/jobs?limit=5").status_code == 200
    assert client.get("/webhooks/deliveries?limit=5&state=pending").status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_the_documentation_is_served_whatever_the_query(client: httpx.Client, path: str) -> None:
    assert client.get(path, params={"x": "1"}).status_code == 200


def test_a_parameter_of_a_dependency_is_one_of_the_endpoint() -> None:
    def page(start: int = 0) -> int:
        return start

    app = FastAPI(dependencies=[Depends(refuse_unknown_parameters)])
    install_faces(app, error_response)

    @app.get("/")
    def show(start: Annotated[int, Depends(page)]) -> int:
        return start

    with serving(app) as url:
        assert patient.get(f"{url}/?start=7").json() == 7
        assert "this endpoint has start" in patient.get(f"{url}/?end=7").json()["detail"]
