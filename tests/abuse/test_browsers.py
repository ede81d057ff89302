"""Pages in a browser on the machine, or in the network, of an API without keys."""

from collections.abc import Iterator

import httpx
import pytest
from pydantic import ValidationError
from starlette.types import ASGIApp
from test_connections import NOWHERE
from websockets.exceptions import InvalidStatus

from api.app import create_app
from api.origins import AllowedOrigins
from harness.live.clients import live
from harness.servers.api_server import assert_problem, serving
from shared.infra.errors import LonghandError, UnknownHost
from shared.infra.settings import Settings

FORM = {"content-type": "multipart/form-data; boundary=b"}
BODY = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--b--\r\n'
)
APP = "https://app.example"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """Of an API without Postgres: whatever comes past the door is answered with 503."""
    with serving(create_app(NOWHERE)) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def own(client: httpx.Client) -> str:
    return str(client.base_url).rstrip("/")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil", "[x"]
)
def test_a_page_that_rebinds_its_name_to_this_machine_gets_nothing(
    client: httpx.Client, method: str, host: str
) -> None:
    headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    for path in ("/jobs", "/", "/docs", "/live", "/metrics"):
        problem = assert_problem(client.request(method, path, headers=headers), 421, "unknown_host")
        assert "LONGHAND_ALLOWED_HOSTS" in problem["detail"] or "malformed" in problem["detail"]
    with (
        pytest.raises(InvalidStatus) as refused,
        live(client, additional_headers={"Host": host}, origin=f"http://{host}"),
    ):
        pass
    assert refused.value.response.status_code in (400, 403)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://["},
        {"origin": "http://a[b]c"},
        {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
        {"origin": "https://evil.example"},
        {"origin": "null", "sec-fetch-site": "cross-site"},
        {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_page_of_another_origin_changes_nothing_and_reads_nothing(
    client: httpx.Client, headers: dict[str, str]
) -> None:
    for method, path in (
        ("POST", "/jobs"),
        ("POST", "/webhooks"),
        ("DELETE", "/jobs/0190a6b2-5c7e-7d3a-9f10-3b1d6a4c8e21"),
        ("PATCH", "/webhooks/0190a6b2-5c7e-7d3a-9f10-3b1d6a4c8e21"),
    ):
        answer = client.request(method, path, headers={**FORM, **headers}, content=BODY)
        assert_problem(answer, 403, "forbidden_origin")
    read = client.get("/health/live", headers=headers)
    assert not [name for name in read.headers if name.startswith("access-control")]
    assert read.headers["cross-origin-resource-policy"] == "same-origin"
    preflight = {**headers, "access-control-request-method": "DELETE"}
    assert "access-control-allow-origin" not in client.options("/jobs", headers=preflight).headers


def test_the_document_tells_where_host_and_origin_are_checked(client: httpx.Client) -> None:
    document = create_app(NOWHERE).openapi()
    told: dict[str, set[str]] = {"unknown_host": set(), "forbidden_origin": set()}
    met: dict[str, set[str]] = {"unknown_host": set(), "forbidden_origin": set()}
    strange = {"unknown_host": {"host": "evil.example"}, "forbidden_origin": {"origin": APP}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            descriptions = {s: each["description"] for s, each in operation["responses"].items()}
            for code, headers in strange.items():
                answer = client.request(method, path, headers=headers)
                if f'"code":"{code}"' in answer.text:
                    met[code].add(f"{method} {path}")
                if f"`{code}`" in descriptions.get(str(answer.status_code), ""):
                    told[code].add(f"{method} {path}")
                else:
                    assert code not in " ".join(descriptions.values())
    assert told == met
    assert len(met["unknown_host"]) > len(met["forbidden_origin"]) > 10
    assert "get /health" not in met["unknown_host"]


@pytest.mark.parametrize("site", ["same-origin", "none", None])
def test_clients_and_the_api_s_own_pages_pass(client: httpx.Client, site: str | None) -> None:
    headers = {} if site is None else {"sec-fetch-site": site}
    if site == "same-origin":
        headers["origin"] = own(client)
    answer = client.post("/jobs", headers={**FORM, **headers}, content=BODY)
    assert_problem(answer, 503, "database_unavailable")


def test_health_is_asked_under_any_name_and_metrics_by_address(client: httpx.Client) -> None:
    for path in ("/health", "/health/live", "/health/status"):
        assert client.get(path, headers={"host": "pod-7.evil.example"}).status_code == 200
    assert client.get("/ready", headers={"host": "10.1.2.3:8000"}).status_code == 503
    assert client.get("/metrics", headers={"host": "10.1.2.3:8000"}).status_code == 200
    assert_problem(client.get("/jobs", headers={"host": "10.1.2.3:8000"}), 421, "unknown_host")


def test_no_redirect_names_the_host_that_a_client_sends(client: httpx.Client) -> None:
    for path in ("/jobs/", "/health/", "/docs/"):
        answer = client.get(path, headers={"x-forwarded-host": "evil.example"})
        assert answer.status_code == 404, answer.headers


def test_every_answer_has_the_security_headers(client: httpx.Client) -> None:
    for path in ("/", "/docs", "/live", "/nothing", "/jobs", "/metrics", "/openapi.json"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] in ("no-store", "no-cache")


@pytest.fixture(scope="module")
def open_app() -> ASGIApp:
    """An application that a page elsewhere may use, behind a proxy that has its public name."""
    names = {
        "allowed_origins": f"{APP}, http://Other.example:8080",
        "allowed_hosts": "api.internal, *.cluster.local",
        "metrics_hosts": "prometheus-target",
        "public_url": "https://longhand.example.com/api",
    }
    return create_app(NOWHERE.model_copy(update=names))


def test_pages_of_listed_origins_may_use_the_api(open_app: ASGIApp) -> None:
    with serving(open_app) as url, httpx.Client(base_url=url, timeout=60) as client:
        asked = {"access-control-request-method": "DELETE"}
        asked |= {"access-control-request-headers": "authorization,content-type"}
        preflight = client.options("/jobs", headers={"origin": APP, **asked})
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == APP
        for origin in (APP, "http://other.example:8080"):
            answer = client.post("/jobs", headers={**FORM, "origin": origin}, content=BODY)
            assert_problem(answer, 503, "database_unavailable")
            assert answer.headers["access-control-allow-origin"] == origin
            assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
        public = {"origin": "https://longhand.example.com", "host": "longhand.example.com"}
        assert client.post("/jobs", headers={**FORM, **public}, content=BODY).status_code == 503
        evil = client.post("/jobs", headers={**FORM, "origin": f"{APP}.evil"}, content=BODY)
        assert_problem(evil, 403, "forbidden_origin")
        strange = client.options("/jobs", headers={"origin": "https://evil.example", **asked})
        assert "access-control-allow-origin" not in strange.headers
        assert client.get("/metrics", headers={"host": "prometheus-target"}).status_code == 200
        assert client.get("/jobs", headers={"host": "prometheus-target"}).status_code == 421


@pytest.mark.parametrize(
    ("host", "server", "known"),
    [
        ("localhost", "127.0.0.1", True),
        ("LOCALHOST.:8000", "127.0.0.1", True),
        ("longhand.localhost", "127.0.0.1", True),
        ("[::1]:8000", "::1", True),
        ("127.8.9.1", "127.0.0.1", True),
        ("192.168.1.7:8000", "192.168.1.7", True),
        ("192.168.1.7:8000", "::ffff:192.168.1.7", True),
        ("192.168.1.8:8000", "192.168.1.7", False),
        ("a.cluster.local", "10.0.0.1", True),
        ("cluster.local", "10.0.0.1", False),
        ("evilcluster.local", "10.0.0.1", False),
        ("api.internal", "10.0.0.1", True),
        ("api.internal@evil.example", "10.0.0.1", False),
        ("api.internal, evil.example", "10.0.0.1", False),
        ("", "127.0.0.1", False),
    ],
)
def test_which_hosts_are_known(host: str, server: str, *, known: bool) -> None:
    names = {"allowed_hosts": "api.internal,*.cluster.local"}
    allowed = AllowedOrigins.of(NOWHERE.model_copy(update=names))
    scope = {"type": "http", "method": "GET", "path": "/jobs", "server": (server, 8000)}
    scope["headers"] = [(b"host", host.encode())]
    try:
        allowed.check(scope)
    except UnknownHost:
        assert not known
    else:
        assert known


@pytest.mark.parametrize("headers", [[], [(b"host", b"localhost"), (b"host", b"evil.example")]])
def test_no_host_and_several_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    scope = {"type": "http", "method": "GET", "path": "/jobs", "headers": headers}
    with pytest.raises(LonghandError):
        AllowedOrigins.of(NOWHERE).check(scope)


@pytest.mark.parametrize("wrong", ["*", "app.example", "https://app.example/", "https://*.example"])
def test_origins_are_listed_one_by_one(wrong: str) -> None:
    with pytest.raises(ValidationError, match="is no origin"):
        Settings(allowed_origins=wrong)
