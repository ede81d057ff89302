"""What the page consists of, who gets it, and how one logs in."""

import gzip
import hashlib
import re
from pathlib import Path

import httpx
from playwright.sync_api import Browser, expect
from sqlalchemy import Engine

from harness.jobs.job_store import add_job
from harness.pages.tabs import Tab, opened
from harness.programs.workers import wait_until
from harness.servers.api_server import api, assert_problem
from shared.infra.settings import Settings
from shared.store.accounts.keys import create_key, revoke_key
from shared.store.accounts.scopes import ALL_SCOPES, Scope

FOLDER = Path(__file__).parents[2] / "web/page"
MAX_FIRST_LOAD = 60 * 1024
BROWSERS = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
VENDORED = re.compile(
    r"^\| (\S+\.js) \| (\S+ \S+) \| \S+ \| (\S+) \| ([0-9a-f]{64}) \|$", re.MULTILINE
)


def test_browsers_get_the_page_and_everybody_else_json(client: httpx.Client) -> None:
    for accept in ("", "*/*", "application/json", "application/json, text/html;q=0.9"):
        answer = client.get("/", headers={"Accept": accept})
        assert answer.json()["name"] == "Longhand"
        assert answer.headers["vary"] == "Accept"
    answer = client.get("/", headers={"Accept": BROWSERS})
    assert answer.text.startswith("<!doctype html>")
    assert "Accept" in answer.headers["vary"]
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; ")
    assert "unsafe" not in policy


def test_files_are_compressed_and_known_again(client: httpx.Client) -> None:
    plain = client.get("/page/app.js", headers={"Accept-Encoding": "identity"})
    packed = client.get("/page/app.js", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.content == packed.content == (FOLDER / "app.js").read_bytes()
    again = client.get("/page/app.js", headers={"If-None-Match": plain.headers["etag"]})
    assert again.status_code == 304
    for path in ("/page/none.js", "/page/../../pyproject.toml", "/page/vendor/README.md"):
        assert client.get(path).status_code == 404


def test_vendored_files_are_those_of_the_table() -> None:
    table = {
        name: digest
        for name, _, _, digest in VENDORED.findall((FOLDER / "vendor/README.md").read_text())
    }
    files = {path.name: path.read_bytes() for path in (FOLDER / "vendor").glob("*.js")}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} == table


def test_every_vendored_package_has_its_licence() -> None:
    packages = VENDORED.findall((FOLDER / "vendor/README.md").read_text())
    for _, package, licence, _ in packages:
        name = package.split()[0].rpartition("/")[2]
        told = (FOLDER / f"vendor/licenses/{name}.txt").read_text()
        assert {"MIT": "MIT License", "Apache-2.0": "Apache License"}[
            licence
        ] in told or "Permission is hereby granted" in told
    assert len(packages) == 5


def test_the_first_load_is_small_and_comes_from_here_alone(tab: Tab) -> None:
    page = tab.page
    loaded: dict[str, int] = {}
    page.on(
        "response",
        lambda answer: loaded.update(
            {answer.url.removeprefix(tab.url): len(gzip.compress(answer.body()))}
        ),
    )
    tab.open()
    expect(page.get_by_text("No jobs here.")).to_be_visible()
    code = {path: size for path, size in loaded.items() if path.endswith((".js", ".css"))}
    assert {"/page/app.js", "/page/page.css", "/page/vendor/preact.js"} <= code.keys()
    assert "/page/vendor/tus.js" not in code
    assert sum(code.values()) <= MAX_FIRST_LOAD


def test_one_logs_in_with_a_key_and_out_again(
    browser: Browser, settings: Settings, database: Engine
) -> None:
    _, key = create_key(database, "default", "a person", {Scope.JOBS_READ, Scope.JOBS_WRITE})
    add_job(database)
    with (
        api(settings.model_copy(update={"auth": "on"})) as client,
        opened(browser, str(client.base_url)) as tab,
    ):
        page = tab.open()
        page.get_by_label("API key").fill("lh_live_wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("This is no valid API key.")
        tab.troubles.clear()  # the browser tells the 401
        tab.assert_accessible()
        page.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
        expect(page.get_by_role("listitem").filter(has_text="a.wav")).to_contain_text("Queued")
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert key not in cookie["value"]
        page.get_by_role("button", name="Cancel: a.wav").click()
        expect(page.get_by_role("listitem").filter(has_text="a.wav")).to_contain_text("Canceled")
        page.reload()
        expect(page.get_by_role("listitem").filter(has_text="a.wav")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("API key")).to_be_visible()
        assert page.context.cookies() == []


def test_the_cookie_alone_changes_nothing(settings: Settings, database: Engine) -> None:
    key, secret = create_key(database, "default", "a person", ALL_SCOPES)
    job_id = add_job(database)
    with api(settings.model_copy(update={"auth": "on"})) as client:
        session = client.post("/session", json={"key": secret}).json()
        assert client.get(f"/jobs/{job_id}").status_code == 200
        token = {"X-CSRF-Token": session["csrf_token"]}
        for headers in ({}, {"X-CSRF-Token": "0" * 64}):
            assert_problem(
                client.delete(f"/jobs/{job_id}", headers=headers), 403, "csrf_token_wrong"
            )
        foreign = {**token, "Origin": "https://evil.example"}
        assert_problem(client.delete(f"/jobs/{job_id}", headers=foreign), 403, "forbidden_origin")
        wrong = {**token, "X-API-Key": "lh_live_wrong"}
        assert_problem(client.delete(f"/jobs/{job_id}", headers=wrong), 401, "unauthenticated")
        assert client.delete(f"/jobs/{job_id}", headers=token).status_code == 204
        client.delete("/session")
        assert client.get("/session").json()["tenant"] is None

        client.post("/session", json={"key": secret})
        revoke_key(database, key.id)
        wait_until(lambda: client.get("/jobs").status_code == 401)
