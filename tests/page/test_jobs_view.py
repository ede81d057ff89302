"""The page's list of jobs, in a browser."""

import hashlib
import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Route, expect
from sqlalchemy import Engine

from harness.jobs.equal import compute, store
from harness.jobs.job_store import add_job, claim, prepare, transcribe
from harness.pages.tabs import PHONE, WIDE, Tab, opened
from harness.servers.api_server import Relay
from shared.infra.errors import UnreadableMedia
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.read import get_job

PART = 16 * 1024 * 1024


def row(tab: Tab, name: str = "a.wav") -> Locator:
    return tab.page.get_by_role("listitem").filter(has_text=name)


def test_a_job_is_followed_from_its_start_to_its_end(tab: Tab, database: Engine) -> None:
    page = tab.open()
    expect(page.get_by_text("No jobs here.")).to_be_visible()
    job_id = add_job(database)
    expect(row(tab)).to_contain_text("Queued")
    prepare(database, job_id, 2)
    transcribe(database, claim(database, job_id, "transcribe"))
    expect(row(tab)).to_contain_text("Transcribing")
    expect(row(tab).get_by_role("progressbar")).to_have_attribute("value", re.compile("[1-9]"))
    transcribe(database, claim(database, job_id, "transcribe", 1))
    store(database, job_id)
    expect(row(tab)).to_contain_text("Done")
    expect(page.get_by_role("status").filter(has_text="a.wav: Done")).to_have_count(1)
    assert tab.layout_shift() < 0.1


def test_a_job_is_canceled_retried_and_deleted_by_keyboard(tab: Tab, database: Engine) -> None:
    job_id = add_job(database)
    page = tab.open()
    for name, state in (("Cancel", "Canceled"), ("Retry", "Queued")):
        row(tab).get_by_role("button", name=f"{name}: a.wav").focus()
        page.keyboard.press("Enter")
        expect(row(tab)).to_contain_text(state)
    row(tab).get_by_role("button", name="Delete: a.wav").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("cannot be undone")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert get_job(database, "default", job_id)
    expect(row(tab).get_by_role("button", name="Delete: a.wav")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(1)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No jobs here.")).to_be_visible()


def test_a_list_is_filtered_and_goes_on_to_older_jobs(tab: Tab, database: Engine) -> None:
    failed, *_ = [add_job(database) for _ in range(30)]
    steps.fail(database, claim(database, failed, "prepare"), UnreadableMedia("no audio"))
    page = tab.open()
    page.evaluate("localStorage.setItem('longhand.uploads', 'no JSON')")
    page.reload()
    expect(row(tab)).to_have_count(25)
    page.route("**/jobs?*cursor=*", lambda route: route.abort())
    page.get_by_role("button", name="Older jobs").click()
    expect(page.get_by_role("alert")).to_have_text("The server gives no answer.")
    tab.troubles = [each for each in tab.troubles if "ERR_FAILED" not in each]
    page.unroute_all()
    page.get_by_role("button", name="Older jobs").click()
    expect(row(tab)).to_have_count(30)
    expect(page.get_by_role("alert")).to_have_count(0)
    page.get_by_role("combobox", name="State").select_option("failed")
    expect(row(tab)).to_have_count(1)
    expect(row(tab)).to_contain_text("no audio")
    page.get_by_role("search").get_by_label("Language").fill("de")
    page.keyboard.press("Tab")
    expect(page.get_by_text("No jobs here.")).to_be_visible()


def test_a_list_that_is_open_for_long_shows_the_newest_jobs_again(
    tab: Tab, database: Engine
) -> None:
    page = tab.open()
    expect(page.get_by_text("No jobs here.")).to_be_visible()
    add_job(database)
    expect(row(tab)).to_have_count(1)  # so it follows what happens
    read: list[str] = []
    page.on("request", lambda request: read.append(request.url))
    for _ in range(99):
        add_job(database)
    older = page.get_by_role("button", name="Older jobs")
    expect(older.or_(row(tab).nth(99)).first).to_be_visible()
    if not any("/jobs?" in url for url in read):  # the first came with a page, not as news
        add_job(database)
    expect(older).to_be_visible()
    expect(row(tab)).to_have_count(25)


def test_more_jobs_than_a_page_while_the_connection_is_lost_leave_no_gap(
    tab: Tab, database: Engine
) -> None:
    add_job(database)
    page = tab.page
    page.route("**/events", lambda route: route.abort())
    tab.open()
    expect(row(tab)).to_have_count(1)
    for _ in range(30):
        cancel_job(database, "default", add_job(database), max_attempts=3)
    page.unroute_all()
    page.get_by_role("button", name="Older jobs").click()
    expect(row(tab)).to_have_count(31)
    tab.troubles = [each for each in tab.troubles if "ERR_FAILED" not in each]


def test_a_stream_that_is_refused_is_asked_for_less_and_less_often(tab: Tab) -> None:
    page, asked = tab.page, list[Route]()

    def refuse(route: Route) -> None:
        asked.append(route)
        if len(asked) > 1:
            route.fulfill(status=503)

    page.clock.install(time=0)
    page.route("**/events", refuse)
    tab.open()
    while not asked:
        page.wait_for_timeout(10)
    # From the first refusal on no time passes between the steps of this test.
    page.clock.pause_at(600_000)
    with page.expect_request("**/session"):
        asked[0].fulfill(status=503)
    for n_asked, longest_ms in enumerate((2000, 4000, 8000, 15_000, 30_000, 30_000), start=1):
        page.clock.run_for(longest_ms // 2 - 1)
        assert len(asked) == n_asked
        # After a refusal the page sets its timer, then looks whether the session has ended.
        with page.expect_request("**/session"):
            page.clock.run_for(longest_ms // 2 + 1)
        assert len(asked) == n_asked + 1
    expect(page.get_by_text("The connection is lost")).to_be_visible()
    tab.troubles = [each for each in tab.troubles if "503" not in each]


def test_files_that_are_chosen_become_jobs_with_the_options(tab: Tab, client: httpx.Client) -> None:
    page = tab.open()
    page.get_by_text("Options").click()
    options = page.get_by_role("region", name="New jobs")
    options.get_by_role("combobox", name="Model").select_option("whisper-tiny")
    options.get_by_role("textbox", name="Language").fill("en")
    options.get_by_label("Numbers as digits").check()
    files = [{"name": f"{n}.wav", "mimeType": "audio/wav", "buffer": b"RIFF"} for n in "ab"]
    page.get_by_label("Choose files").set_input_files(files)  # type: ignore[arg-type]
    for name in ("a.wav", "b.wav"):
        expect(row(tab, name)).to_contain_text("Queued")
    jobs = client.get("/jobs").json()["jobs"]
    assert {(job["source"]["name"], job["language"], job["model"]) for job in jobs} == {
        ("a.wav", "en", "whisper-tiny"),
        ("b.wav", "en", "whisper-tiny"),
    }


def test_a_file_that_is_dropped_becomes_a_job(tab: Tab) -> None:
    page = tab.open()
    expect(page.get_by_text("No jobs here.")).to_be_visible()
    page.evaluate("""() => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File(["RIFF"], "dropped.wav"));
        document.body.dispatchEvent(
            new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true}));
    }""")
    expect(row(tab, "dropped.wav")).to_contain_text("Queued")


def test_an_upload_that_a_reload_cuts_goes_on_with_less_than_a_part_sent_again(
    tab: Tab, client: httpx.Client, tmp_path: Path
) -> None:
    content = b"RIFF" + bytes(PART + PART // 4)
    file = tmp_path / "long.wav"
    file.write_bytes(content)
    offsets: list[int] = []
    is_cut = True

    def cut(route: Route) -> None:
        offset = int(route.request.headers.get("upload-offset", 0))
        if route.request.method == "PATCH" and offset and is_cut:
            route.abort()  # the first part is stored, as this follows its answer
            return
        if route.request.method == "PATCH":
            offsets.append(offset)
        route.continue_()

    page = tab.open()
    page.route("**/uploads/tus/*", cut)
    with page.expect_event("requestfailed", lambda request: "/uploads/tus/" in request.url):
        page.get_by_label("Choose files").set_input_files(file)
    expect(row(tab, "long.wav").get_by_role("progressbar")).to_have_attribute(
        "value", re.compile("^(79|8)")
    )
    page.on("dialog", lambda dialog: dialog.accept())
    is_cut = False
    page.reload()
    expect(page.get_by_text("The upload of long.wav was cut off.")).to_be_visible()
    page.get_by_label("Choose files").set_input_files(file)
    expect(row(tab, "long.wav")).to_contain_text("Queued")
    assert (offsets[0], set(offsets[1:])) == (0, {PART})
    sent_again = (len(offsets) - 2) * (len(content) - PART)  # where an answer was late
    assert sent_again < PART
    (job,) = client.get("/jobs").json()["jobs"]
    assert job["source"]["sha256"] == hashlib.sha256(content).hexdigest()
    expect(page.get_by_text("was cut off")).to_have_count(0)
    tab.troubles = [each for each in tab.troubles if "ERR_FAILED" not in each]


def test_the_list_bridges_a_server_that_goes_away(
    browser: Browser, client: httpx.Client, database: Engine
) -> None:
    relay = Relay(client.base_url.port or 0)
    with opened(browser, f"http://127.0.0.1:{relay.port}") as tab:
        page = tab.open()
        expect(page.get_by_text("No jobs here.")).to_be_visible()
        relay.go_away()
        expect(page.get_by_text("The connection is lost, and is tried again.")).to_be_visible()
        compute(database, add_job(database))
        relay.come_back()
        expect(row(tab)).to_contain_text("Done")
        expect(page.get_by_text("The connection is lost")).to_have_count(0)
        tab.troubles = [each for each in tab.troubles if "ERR_" not in each]
    relay.cut()


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_list_is_accessible(
    browser: Browser,
    client: httpx.Client,
    database: Engine,
    tmp_path: Path,
    size: dict[str, int],
) -> None:
    compute(database, add_job(database))
    failed, running = add_job(database), add_job(database)
    steps.fail(database, claim(database, failed, "prepare"), UnreadableMedia("this is no audio"))
    prepare(database, running, 2)
    transcribe(database, claim(database, running, "transcribe"))
    with opened(browser, str(client.base_url), size) as tab:
        page = tab.open()
        page.get_by_text("Options").click()
        expect(row(tab)).to_have_count(3)
        page.screenshot(path=tmp_path / "jobs.png")  # for people
        tab.assert_accessible()
        page.screenshot(path=tmp_path / "jobs-dark.png")
