"""The page's search, and its view of workers."""

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import Engine, text

from harness.jobs.equal import compute, submit
from harness.jobs.job_store import add_job, claim_step, prepare, step_ids
from harness.jobs.registry import enter_worker
from harness.jobs.webhook_store import add_hook
from harness.pages.jobs import add_transcribed, sound, spoken
from harness.pages.tabs import PHONE, WIDE, Tab, opened
from shared.infra.storage import Storage


def test_a_hit_leads_to_its_word_in_the_reader(
    tab: Tab, database: Engine, storage: Storage
) -> None:
    add_transcribed(database, storage, spoken("nothing of it here,", "but it is there."), sound())
    page = tab.open("/search")
    page.get_by_role("searchbox").fill('"is there" BUT')
    page.keyboard.press("Enter")
    hit = page.get_by_role("listitem")
    expect(hit.locator("mark")).to_have_text(["but", "is there."])
    expect(hit).to_contain_text("nothing of it here,")
    page.go_back()
    expect(hit).to_have_count(0)
    page.go_forward()
    hit.get_by_role("link", name="austen.wav, 0:02").click()
    expect(page.get_by_role("slider", name="Position")).to_have_value("2")
    page.goto(f"{tab.url}/#/search?q=nowhere")
    expect(page.get_by_text("Nothing was found.")).to_be_visible()


def test_the_fleet_shows_workers_with_their_steps_and_the_backlog_and_cancels_a_job(
    tab: Tab, database: Engine
) -> None:
    owner = enter_worker(database, "model", "oracle")
    job_id = add_job(database)
    prepare(database, job_id, 2)
    page = tab.open("/fleet")
    backlog = page.get_by_role("region", name="Backlog of your jobs")
    expect(backlog.get_by_role("row").nth(1)).to_contain_text("oracle")
    expect(backlog.get_by_role("row").nth(1)).to_contain_text("2 s")
    workers = page.get_by_role("region", name="Workers")
    expect(workers.get_by_role("row").nth(1)).to_contain_text("idle")
    (step, _) = step_ids(database, job_id, "transcribe")
    assert claim_step(database, step, owner=owner)
    expect(workers.get_by_role("row").nth(1)).to_contain_text("transcribe 0")
    workers.get_by_role("button", name=f"Cancel: {job_id}").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.get_by_text("Nothing waits.")).to_be_visible()


def test_a_worker_is_drained_and_resumed(tab: Tab, database: Engine) -> None:
    worker = enter_worker(database, "model", "oracle")
    enter_worker(database, "beat")
    row = tab.open("/fleet").get_by_role("row").filter(has_text=worker)
    expect(row).to_contain_text("ready")
    row.get_by_role("button", name=f"Drain: {worker}").click()
    tab.page.get_by_role("dialog").get_by_role("button", name="Drain").click()
    expect(row).to_contain_text("drained")
    row.get_by_role("button", name=f"Resume: {worker}").click()
    expect(row).to_contain_text("ready")
    expect(tab.page.get_by_role("button", name="Drain: beat-None")).to_have_count(0)


def test_the_fleet_shows_error_rates_over_time_and_failed_deliveries_which_are_sent_again(
    tab: Tab, database: Engine
) -> None:
    add_hook(database, "https://hooks.example/x")
    compute(database, submit(database, reference="w01000 w01001 and more"))
    with database.begin() as connection:
        connection.execute(text("UPDATE webhook_deliveries SET state = 'failed', error = 'gone'"))
    page = tab.open("/fleet")
    rates = page.get_by_role("region", name="Word error rate over time").first
    expect(rates.get_by_role("img")).to_be_visible()
    rates.get_by_text("As a table").click()
    expect(rates.get_by_role("row").nth(1)).to_contain_text("oracle")
    deliveries = page.get_by_role("region", name="Webhook deliveries")
    deliveries.get_by_label("Failed only").check()
    row = deliveries.get_by_role("row").filter(has_text="hooks.example")
    expect(row).to_contain_text("gone")
    row.get_by_role("button", name="Send again: ").click()
    expect(deliveries.get_by_text("Nothing was sent.")).to_be_visible()
    deliveries.get_by_label("Failed only").uncheck()
    expect(row).to_contain_text("pending")


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_search_and_fleet_are_accessible(
    browser: Browser,
    client: httpx.Client,
    database: Engine,
    storage: Storage,
    tmp_path: Path,
    size: dict[str, int],
) -> None:
    add_transcribed(database, storage, spoken("nothing of it here,", "but it is there."))
    enter_worker(database, "model", "oracle")
    prepare(database, add_job(database), 2)
    with opened(browser, str(client.base_url), size) as tab:
        for view, shown in (("/search?q=there", "austen.wav, 0:03"), ("/fleet", "oracle")):
            page = tab.open(view)
            expect(page.get_by_text(shown).first).to_be_visible()
            page.screenshot(path=tmp_path / "view.png")  # for people
            tab.assert_accessible()
