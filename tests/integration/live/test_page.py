"""The page ``/live``: what is served, and what it does in a real browser, where there is one."""

import math
import re
import wave
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from api.live.checkpoints import Checkpoints
from api.live.errors import LiveError
from harness.live.audio import say, silence, texts
from harness.live.hearers import ToneHearer
from harness.pages.browser import CHROMIUM, chromium
from harness.programs.workers import wait_until
from harness.servers.api_server import Relay, api
from shared.infra.settings import Settings
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import ALL_SCOPES

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

SHOWN = "[...said.children].map((line) => line.textContent)"
STATUS = "document.getElementById('status').textContent"
KEPT = """
(async () => {
  const { Kept } = await import("/live/session.js");
  const kept = new Kept();
  const piece = (value) => new Int16Array(320).fill(value).buffer;  // 20 ms
  for (let at = 0; at < 3_000; at++) kept.add(piece(1 + at));
  const samples = (pcm) => [...new Int16Array(pcm)];
  const values = (position) => [...kept.after(position)].flatMap(samples);
  const whole = values(0);
  kept.forget(2_990 * 640 + 100);
  return { whole, rest: values(2_990 * 640 + 100), start: kept.start };
})()
"""

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")


def recorded(pcm: bytes, folder: Path) -> Path:
    """Return a WAV file for the microphone."""
    path = folder / "microphone.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        file.writeframes(pcm)
    return path


async def forget(*_: object) -> None:
    raise LiveError("SESSION_NOT_FOUND", "Redis has lost its data.")


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
    assert seen == {"/live", "/live/page.js", "/live/session.js", "/live/microphone.js"}


def test_the_page_has_a_hundred_lines_at_most() -> None:
    assert sum(len((WEB / name).read_text().splitlines()) for name in PAGE) <= 100


PARTIALS_SHOWN = """
window.partials = [];
new MutationObserver(() => window.partials.push(saying.textContent))
  .observe(saying, { childList: true, characterData: true, subtree: true });
"""
"""Keeps what the page shows for an instant."""


@needs_browser
def test_a_browser_shows_partials_and_finals_of_what_its_microphone_hears(
    client: httpx.Client, hearer: ToneHearer, tmp_path: Path
) -> None:
    # The file is played again and again. On a busy machine the first words may be lost, or the last
    # final by now.
    spoken = silence(1.5) + say(1, 2, 3) + silence(1.0) + say(*range(4, 24))
    with chromium(recorded(spoken, tmp_path), again=True) as page:
        page.open(str(client.base_url.join("/live")))
        page.value(PARTIALS_SHOWN)
        page.value("toggle.click()")
        wait_until(lambda: texts(1, 2, 3) in page.value(SHOWN))
        wait_until(
            lambda: any(said.startswith(texts(4, 5, 6)) for said in page.value("window.partials"))
        )
        page.screenshot(tmp_path / "live.png")  # for people
        page.value("toggle.click()")
        wait_until(lambda: page.value(STATUS) == "The microphone is off.")
        assert any(said.startswith(texts(4, 5, 6)) for said in page.value(SHOWN))
        assert page.value("saying.textContent") == ""


@needs_browser
@pytest.mark.parametrize("is_forgotten", [False, True], ids=["goes on", "is forgotten"])
def test_no_word_is_lost_or_doubled_when_the_pages_connection_breaks(
    client: httpx.Client,
    hearer: ToneHearer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_forgotten: bool,
) -> None:
    if is_forgotten:
        monkeypatch.setattr(Checkpoints, "take_over", forget)
    # What it plays before the page listens is lost.
    spoken = silence(4.0) + say(1, 2, 3) + silence(1.0) + say(*range(4, 14)) + silence(30)
    relay = Relay(client.base_url.port or 0)
    with chromium(recorded(spoken, tmp_path)) as page:
        page.open(f"http://127.0.0.1:{relay.port}/live")
        page.value("toggle.click()")
        wait_until(lambda: texts(1, 2, 3) in page.value(SHOWN))
        relay.go_away()
        wait_until(lambda: "What you say is kept." in page.value(STATUS))
        relay.come_back()
        wait_until(lambda: page.value(STATUS) == "Listening.")
        wait_until(lambda: len(page.value(SHOWN)) == 2)
        page.value("toggle.click()")
        wait_until(lambda: page.value(STATUS) == "The microphone is off.")
        relay.cut()
        assert page.value(SHOWN) == [texts(1, 2, 3), texts(*range(4, 14))]


@needs_browser
def test_the_page_keeps_35_seconds_without_text_and_has_silence_for_what_came_before(
    client: httpx.Client, tmp_path: Path
) -> None:
    with chromium(tmp_path / "none.wav") as page:
        page.open(str(client.base_url.join("/live")))
        found = page.value(KEPT)
    samples = [1 + number for number in range(3_000) for _ in range(320)]
    lost = 320 * (3_000 - 35 * 50)
    assert found["whole"] == [0] * lost + samples[lost:]
    assert found["rest"] == samples[2_990 * 320 + 50 :]
    assert found["start"] == 2_990 * 640


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
        wait_until(lambda: page.value(STATUS) == "No worker serves 'oracle' now.")
        wait_until(lambda: page.value("toggle.textContent") == "Start")


LOG_IN = """
fetch("/session", {method: "POST", headers: {"Content-Type": "application/json"},
                   body: JSON.stringify({key: "KEY"})}).then((answer) => answer.status)
"""


@needs_browser
def test_who_is_logged_in_speaks_without_a_key_and_keeps_the_talk_as_a_job(
    servers: Settings, database: Engine, hearer: ToneHearer, tmp_path: Path
) -> None:
    _, key = create_key(database, "default", "a person", ALL_SCOPES)
    settings = servers.model_copy(update={"auth": "on"})
    spoken = silence(4.0) + say(1, 2, 3) + silence(30)  # what it plays too early is lost
    with api(settings, hearer.make) as client, chromium(recorded(spoken, tmp_path)) as page:
        page.open(str(client.base_url.join("/live")))
        assert page.value(LOG_IN.replace("KEY", key)) == 200
        page.value("save.click()")
        page.value("toggle.click()")
        assert wait_until(lambda: page.value(SHOWN)) == [texts(1, 2, 3)]
        page.value("toggle.click()")
        wait_until(lambda: page.value(STATUS) == "The microphone is off.")
        headers = {"X-API-Key": key}
        (kept,) = wait_until(lambda: client.get("/jobs", headers=headers).json()["jobs"])
        job = client.get(f"/jobs/{kept['id']}", headers=headers).json()
    assert job["live_text"] == texts(1, 2, 3)
