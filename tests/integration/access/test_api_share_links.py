"""Share links: what one opens, what it does not, and how it ends."""

import logging
from collections.abc import Iterator
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, text

from harness.jobs.equal import compute, submit
from harness.jobs.job_store import add_job
from harness.jobs.tenants import add_tenant
from harness.pages.jobs import add_transcribed, sound, spoken
from harness.servers.api_server import api, assert_problem
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import Scope
from shared.store.accounts.tenants import create_tenant
from shared.store.jobs.delete import delete_job
from shared.store.share_links import LONGEST_S, MOST_OF_A_JOB, create_share_link

pytestmark = pytest.mark.usefixtures("database")
OPEN = ("transcript", "transcript?format=srt", "audio", "peaks")
CLOSED = ("", "/changes", "/speakers", "/manifest", "/events", "/shares")


@pytest.fixture(scope="module")
def server(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers.model_copy(update={"auth": "on"})) as client:
        yield client


@pytest.fixture
def owner(server: httpx.Client, database: Engine) -> dict[str, str]:
    scopes = {Scope.JOBS_READ, Scope.JOBS_WRITE}
    return {"X-API-Key": create_key(database, "default", "a test's", scopes)[1]}


@pytest.fixture
def job_id(database: Engine, storage: Storage) -> UUID:
    return add_transcribed(database, storage, spoken("what was said"), sound())


@pytest.fixture
def visitor(server: httpx.Client) -> Iterator[httpx.Client]:
    """A browser that has no key."""
    with httpx.Client(base_url=server.base_url, timeout=60, trust_env=False) as client:
        yield client


def share(server: httpx.Client, owner: dict[str, str], job_id: UUID, **body: float) -> str:
    """Make a link, and return its token."""
    answer = server.post(f"/jobs/{job_id}/shares", json=body, headers=owner)
    assert answer.status_code == 201, answer.text
    path, _, token = answer.json()["url"].partition("#")
    assert path.endswith("/s")
    return str(token)


def enter(visitor: httpx.Client, token: str) -> httpx.Response:
    return visitor.post("/s", json={"token": token})


def test_a_link_opens_its_jobs_transcript_audio_and_peaks_and_nothing_else(
    server: httpx.Client,
    owner: dict[str, str],
    job_id: UUID,
    visitor: httpx.Client,
    database: Engine,
) -> None:
    other = submit(database)
    compute(database, other)
    token = share(server, owner, job_id)
    assert len(token) >= 43  # 256 bits
    told = enter(visitor, token)
    assert told.json().keys() == {"job_id", "name", "expires_at"}
    cookie = told.headers["set-cookie"].lower()
    for member in (f"path=/jobs/{job_id}", "httponly", "samesite=strict", "max-age="):
        assert member in cookie
    for path in OPEN:
        assert visitor.get(f"/jobs/{job_id}/{path}").status_code == 200, path
    part = visitor.get(f"/jobs/{job_id}/audio", headers={"Range": "bytes=0-9"})
    assert (part.status_code, len(part.content)) == (206, 10)
    for path in CLOSED:
        answer = visitor.get(f"/jobs/{job_id}{path}")
        assert_problem(answer, 401, "unauthenticated")
    for method, path in (("POST", "/shares"), ("DELETE", ""), ("POST", "/changes/undo")):
        answer = visitor.request(method, f"/jobs/{job_id}{path}", headers={"If-Match": "*"})
        assert_problem(answer, 401, "unauthenticated")
    for path in ("/jobs", "/search?q=said", f"/jobs/{other}/transcript", f"/jobs/{other}/audio"):
        forced = visitor.get(path, headers={"Cookie": f"longhand_share={token}"})
        assert_problem(forced, 401, "unauthenticated")


def test_a_link_counts_before_the_session_of_another_tenant_and_after_a_key(
    server: httpx.Client,
    owner: dict[str, str],
    job_id: UUID,
    visitor: httpx.Client,
    database: Engine,
) -> None:
    create_tenant(database, "acme", "Acme Ltd")
    _, key = create_key(database, "acme", "another's", {Scope.JOBS_READ})
    path = f"/jobs/{job_id}/transcript"
    assert visitor.post("/session", json={"key": key}).status_code == 200
    assert visitor.get(path).status_code == 404
    assert enter(visitor, share(server, owner, job_id)).status_code == 200
    assert visitor.get(path).status_code == 200
    assert visitor.get(path, headers={"X-API-Key": key}).status_code == 404
    assert visitor.get(path, headers={"X-API-Key": "wrong"}).status_code == 401


def test_a_link_ends_when_it_is_revoked_when_it_expires_and_with_its_job(
    server: httpx.Client,
    owner: dict[str, str],
    job_id: UUID,
    visitor: httpx.Client,
    database: Engine,
) -> None:
    path = f"/jobs/{job_id}/transcript"
    for end in ("revoke", "expire", "delete"):
        token = share(server, owner, job_id)
        assert enter(visitor, token).status_code == 200
        assert visitor.get(path).status_code == 200
        (link,) = server.get(f"/jobs/{job_id}/shares", headers=owner).json()["shares"]
        assert link.keys() == {"id", "created_at", "expires_at"}
        if end == "revoke":
            one = f"/jobs/{job_id}/shares/{link['id']}"
            assert server.delete(one, headers=owner).status_code == 204
            assert_problem(server.delete(one, headers=owner), 404, "share_link_not_found")
        elif end == "expire":
            with database.begin() as connection:
                connection.execute(text("UPDATE share_links SET expires_at = now()"))
            assert server.get(f"/jobs/{job_id}/shares", headers=owner).json() == {"shares": []}
        else:
            delete_job(database, "default", job_id, max_attempts=3)
        assert_problem(visitor.get(path), 401, "unauthenticated")
        assert_problem(enter(visitor, token), 404, "share_link_not_found")
    with database.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM share_links")).scalar_one() == 0


def test_the_time_of_a_link_is_bounded_and_so_is_the_number_of_a_jobs_links(
    server: httpx.Client, owner: dict[str, str], job_id: UUID, database: Engine
) -> None:
    path = f"/jobs/{job_id}/shares"
    for expires_in_s in (0, -1, LONGEST_S + 1):
        answer = server.post(path, json={"expires_in_s": expires_in_s}, headers=owner)
        assert_problem(answer, 422, "invalid_request")
    for _ in range(MOST_OF_A_JOB):
        create_share_link(database, "default", job_id)
    assert_problem(server.post(path, json={}, headers=owner), 409, "too_many_share_links")
    queued = add_job(database)
    answer = server.post(f"/jobs/{queued}/shares", json={}, headers=owner)
    assert_problem(answer, 409, "transcript_not_ready")


def test_requests_by_a_link_count_as_its_owners(database: Engine, visitor: httpx.Client) -> None:
    tenant = add_tenant(database, requests_per_minute=2)
    job_id = submit(database, tenant=tenant)
    compute(database, job_id)
    enter(visitor, create_share_link(database, tenant, job_id)[1])
    path = f"/jobs/{job_id}/transcript"
    answers = [visitor.get(path).status_code for _ in range(5)]  # a new minute may begin once
    assert answers[0] == 200
    assert 429 in answers


def test_no_log_has_the_token_and_the_database_has_its_digest_alone(
    server: httpx.Client,
    owner: dict[str, str],
    job_id: UUID,
    visitor: httpx.Client,
    database: Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        token = share(server, owner, job_id)
        assert enter(visitor, token).status_code == 200
        assert visitor.get(f"/jobs/{job_id}/transcript").status_code == 200
        enter(visitor, token * 3)  # refused: it is too long
        page = visitor.get("/s", headers={"Accept": "text/html"})
    ours = [each.getMessage() for each in caplog.records if not each.name.startswith("http")]
    assert any("POST /s 200" in line for line in ours)
    assert not [line for line in ours if token in line]
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-robots-tag"] == "noindex"
    with database.begin() as connection:
        row = connection.execute(text("SELECT CAST(t AS text) FROM share_links AS t")).scalar_one()
    assert token not in row
