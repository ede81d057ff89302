"""The page ``/live``: what is served, and what it does in a real browser, where there is one."""

import math
import re
import wave
from pathlib import Path

import httpx
import pytest
from browser import CHROMIUM, chromium
from liveaudio import say, silence, texts
from livehearers import ToneHearer
from processes import wait_until

WEB = Path(__file__).parents[3] / "web/live"
PAGE = ("index.html", "page.js")
RESAMPLED = """
(async () => {
  const { Resampler } = await import("/live/microphone.js");
  const resampler = new Resampler(RATE);
  const found = [];
  for (let at = 0; at < RATE; at += 128) {
    found.push(...resampler.push(Float32Array.from({ length: 128 }, (_, index) =>
      Math.sin(2 * Math.PI * HERTZ * (at + index) / RATE))));
  }
  return found;
})()
"""

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")


def test_the_page_and_all_that_it_names_are_served_and_nothing_comes_from_elsewhere(
    client: httpx.Client,
) -> None:
    page = client.get("/live")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    todo, seen = ["/live"], set[str]()
    while todo:
        path = todo.pop()
        seen.add(path)
        answer = client.get(path)
        assert answer.status_code == 200
        if path.endswith(".js"):
            assert answer.headers["content-type"].startswith("text/javascript")
        assert "//" not in re.sub(r"(?m)^\s*//.*|\s// .*|}//\$", "", answer.text)
        todo += set(re.findall(r'(?:src=|from )"([^"]+)"', answer.text)) - seen
    assert seen == {"/live", "/live/page.js", "/live/microphone.js"}


def test_the_page_has_a_hundred_lines_at_most() -> None:
    assert sum(len((WEB / name).read_text().splitlines()) for name in PAGE) <= 100


@needs_browser
def test_a_browser_shows_partials_and_finals_of_what_its_microphone_hears(
    client: httpx.Client, hearer: ToneHearer, tmp_path: Path
) -> None:
    # Its first second is lost where the microphone starts before the session.
    spoken = silence(1.5) + say(1, 2, 3) + silence(1.0) + say(*range(4, 24))
    microphone = tmp_path / "microphone.wav"
    with wave.open(str(microphone), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        file.writeframes(spoken)
    with chromium(microphone) as page:
        page.open(str(client.base_url.join("/live")))
        page.value("toggle.click()")
        shown = "[...said.children].map((line) => line.textContent)"
        assert wait_until(lambda: page.value(shown)) == [texts(1, 2, 3)]
        wait_until(lambda: page.value("saying.textContent").startswith(texts(4, 5, 6)))
        page.screenshot(tmp_path / "live.png")  # for people
        page.value("toggle.click()")
        over = "The microphone is off."
        wait_until(lambda: page.value("document.getElementById('status').textContent") == over)
        first, second = page.value(shown)
        assert first == texts(1, 2, 3)
        assert second.startswith(texts(4, 5, 6))
        assert page.value("saying.textContent") == ""


@needs_browser
def test_the_microphones_rate_becomes_16_khz_without_seams(
    client: httpx.Client, tmp_path: Path
) -> None:
    with chromium(tmp_path / "none.wav") as page:
        page.open(str(client.base_url.join("/live")))
        for rate in (44_100, 48_000):
            found = page.value(RESAMPLED.replace("RATE", str(rate)).replace("HERTZ", "1000"))
            assert 15_900 < len(found) <= 16_100
            wanted = (math.sin(2 * math.pi * 1000 * at / 16_000) for at in range(len(found)))
            errors = [abs(one - other) for one, other in zip(found, wanted, strict=True)]
            assert max(errors[100:]) < 0.001


@needs_browser
def test_the_page_says_why_a_session_does_not_begin(
    client: httpx.Client, hearer: ToneHearer, tmp_path: Path
) -> None:
    hearer.models = frozenset()
    with chromium(tmp_path / "none.wav") as page:
        page.open(str(client.base_url.join("/live")))
        page.value("toggle.click()")
        told = "document.getElementById('status').textContent"
        wait_until(lambda: page.value(told) == "No worker serves 'oracle' now.")
        wait_until(lambda: page.value("toggle.textContent") == "Start")
