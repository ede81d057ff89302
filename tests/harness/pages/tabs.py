"""Tabs of a real Chromium for tests of the page."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, Request

AXE = Path(__file__).parents[2] / "page" / "axe.min.js"
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
SLOWEST_MS = 60_000
"""How long a busy machine may take for anything."""
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),  # it beeps
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
FINDINGS = """
async () => {
  const {violations} = await axe.run(document, {resultTypes: ["violations"]});
  return violations.map(({id, impact, nodes}) => `${impact} ${id}: ${nodes[0].html}`);
}
"""
SHIFT = """
() => new Promise((resolve) => {
  let shift = 0;
  const add = (list) => list.getEntries().forEach((each) => { shift += each.hadRecentInput ? 0 : each.value; });
  new PerformanceObserver(add).observe({type: "layout-shift", buffered: true});
  setTimeout(() => resolve(shift), 50);
})
"""  # noqa: E501


@dataclass
class Tab:
    """A tab, and what went wrong in it."""

    page: Page
    url: str
    troubles: list[str] = field(default_factory=list)
    """Errors on the console, and requests to other hosts."""

    def open(self, view: str = "/") -> Page:
        """Go to a view."""
        self.page.goto(f"{self.url}/#{view}")
        return self.page

    def assert_accessible(self) -> None:
        """Check that axe finds nothing, and that the page fits its width, in light and in dark."""
        page = self.page
        page.evaluate(AXE.read_text() + ";null")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            findings = page.evaluate(FINDINGS)
            assert findings == [], f"{scheme}: {findings}"
        wide = "() => document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not page.evaluate(wide)

    def layout_shift(self) -> float:
        """Return the page's cumulative layout shift so far."""
        return float(self.page.evaluate(SHIFT))

    def reopen(self) -> None:
        """Close the tab, and open another in the same browser."""
        context = self.page.context
        self.page.close()
        self.watch(context.new_page())

    def watch(self, page: Page) -> None:
        """Take this tab, and note what goes wrong in it."""
        self.page = page
        page.on("request", self.note)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on(
            "console",
            lambda told: self.troubles.append(told.text) if told.type == "error" else None,
        )

    def note(self, request: Request) -> None:
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.troubles.append(f"request to {request.url}")


@contextmanager
def opened(browser: Browser, url: str, size: dict[str, int] = WIDE) -> Iterator[Tab]:
    """Yield a tab of a browser of its own; nothing may go wrong in it that is not looked at."""
    context = browser.new_context(viewport=size)  # type: ignore[arg-type]
    context.set_default_timeout(SLOWEST_MS)
    page = context.new_page()
    tab = Tab(page, url.rstrip("/"))
    tab.watch(page)
    try:
        yield tab
        assert tab.troubles == [], tab.troubles
    finally:
        context.close()
