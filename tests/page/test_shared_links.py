"""Share links on the page: made by whoever has a key, opened by whoever has none."""

import re
from uuid import UUID

import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import Engine

from harness.pages.jobs import add_transcribed, sound, spoken
from harness.pages.tabs import PHONE, opened
from harness.servers.api_server import api
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import ALL_SCOPES


@pytest.fixture
def job_id(database: Engine, storage: Storage) -> UUID:
    said = spoken("It is a truth universally acknowledged,", "that a single man must be.")
    return add_transcribed(database, storage, said, sound())


def test_a_link_opens_the_reader_read_only_until_it_is_revoked(
    browser: Browser, settings: Settings, database: Engine, job_id: UUID
) -> None:
    _, key = create_key(database, "default", "a person", ALL_SCOPES)
    with (
        api(settings.model_copy(update={"auth": "on"})) as client,
        opened(browser, str(client.base_url)) as owner,
        opened(browser, str(client.base_url), PHONE) as visitor,
    ):
        page = owner.open(f"/jobs/{job_id}")
        page.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Share").focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Valid for").select_option("1")
        dialog.get_by_role("button", name="Make a link").click()
        link = dialog.get_by_label("Link", exact=True)
        expect(link).to_have_value(re.compile(r"/s#[\w-]{43}$"))
        expect(dialog.get_by_role("listitem")).to_have_count(1)
        owner.assert_accessible()

        shared = visitor.page
        shared.goto(link.input_value())
        article = shared.get_by_role("article", name="Transcript")
        expect(article).to_contain_text("truth universally")
        expect(shared.get_by_text("/ 0:20")).to_be_visible()
        shared.keyboard.press("l")
        expect(shared.get_by_role("slider", name="Position")).to_have_value("5")
        for name in ("Correct", "Undo", "Use as reference", "Share"):
            expect(shared.get_by_role("button", name=name, exact=True)).to_have_count(0)
        shared.get_by_text("Download", exact=True).click()
        with shared.expect_download() as downloaded:
            shared.get_by_role("link", name="Subtitles (SRT)").click()
        assert "acknowledged" in downloaded.value.path().read_text()
        visitor.assert_accessible()

        dialog.get_by_role("button", name="Revoke: ").click()
        expect(dialog.get_by_role("listitem")).to_have_count(0)
        expect(link).to_have_count(0)
        shared.reload()
        expect(shared.get_by_role("alert")).to_contain_text("has expired or was revoked")
        visitor.troubles.clear()  # the browser tells the 404
