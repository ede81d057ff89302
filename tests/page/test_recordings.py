"""Recordings from the microphone, which nothing loses."""

import httpx
from playwright.sync_api import Page, expect

from harness.pages.tabs import Tab
from harness.programs.workers import wait_until

EBML = b"\x1a\x45\xdf\xa3"
"""The first bytes of WebM."""
PIECES = """
() => new Promise((resolve) => {
  const request = indexedDB.open("longhand");
  request.onsuccess = () => {
    const count = request.result.transaction("pieces").objectStore("pieces").count();
    count.onsuccess = () => { request.result.close(); resolve(count.result >= 2); };
  };
})
"""
LOOK = """
async () => {
  const {kept, look} = await import("/page/recordings.js");
  await look();
  return kept.value.length;
}
"""
NAME = "Recording 20"
KEPT = "Recordings in this browser"


def begin(page: Page) -> None:
    """Record until something is kept of it."""
    page.get_by_role("button", name="Record", exact=True).click()
    expect(page.get_by_role("button", name="Stop and upload")).to_be_visible()
    wait_until(lambda: page.evaluate(PIECES))


def test_a_closed_tab_and_a_refused_upload_lose_no_recording(
    tab: Tab, client: httpx.Client
) -> None:
    begin(tab.open())
    tab.reopen()
    page = tab.open()
    kept = page.get_by_role("region", name=KEPT)
    expect(kept.get_by_role("listitem")).to_contain_text(NAME)
    tab.assert_accessible()
    page.route("**/uploads/tus", lambda route: route.fulfill(status=413, body="too large"))
    kept.get_by_role("button", name="Upload: ").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    tab.troubles = [each for each in tab.troubles if "413" not in each]
    page.unroute_all()

    tab.reopen()
    page = tab.open()
    with page.expect_download() as downloaded:
        kept = page.get_by_role("region", name=KEPT)
        kept.get_by_role("button", name="Download: ").click()
    file = downloaded.value.path().read_bytes()
    assert file.startswith(EBML)
    kept.get_by_role("button", name="Upload: ").click()
    expect(page.get_by_role("listitem").filter(has_text=NAME)).to_contain_text("Queued")
    expect(kept).to_have_count(0)
    (job,) = client.get("/jobs").json()["jobs"]
    assert job["source"]["bytes"] == len(file)
    assert client.get(f"/jobs/{job['id']}/audio").content == file


def test_a_recording_goes_on_in_other_views_is_no_other_tabs_and_uploads_at_its_end(
    tab: Tab,
) -> None:
    page = tab.open()
    begin(page)
    page.get_by_role("link", name="Search").click()
    expect(page.get_by_role("link", name="Recording 0:")).to_be_visible()
    other = page.context.new_page()
    other.goto(f"{tab.url}/#/")
    expect(other.get_by_text("No jobs here.")).to_be_visible()
    assert other.evaluate(LOOK) == 0
    page.get_by_role("link", name="Recording 0:").click()
    page.get_by_role("button", name="Stop and upload").click()
    row = page.get_by_role("listitem").filter(has_text=NAME)
    expect(row).to_contain_text("Queued")
    expect(page.get_by_role("link", name="Recording 0:")).to_have_count(0)


def test_a_recording_is_discarded_only_when_that_is_confirmed(tab: Tab) -> None:
    begin(tab.open())
    tab.reopen()
    page = tab.open()
    kept = page.get_by_role("region", name=KEPT)
    for answer, left in (("Keep", 1), ("Discard", 0)):
        kept.get_by_role("button", name="Discard: ").click()
        page.get_by_role("dialog").get_by_role("button", name=answer).click()
        expect(kept).to_have_count(left)
