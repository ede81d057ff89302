"""Live sessions where keys are asked for: what the page does with one, and ``longhand listen``."""

import json
import wave
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine
from websockets.exceptions import InvalidStatus

from harness.live.audio import say, silence, texts
from harness.live.clients import live
from harness.live.hearers import ToneHearer
from harness.pages.browser import CHROMIUM, chromium
from harness.programs.command_line import longhand
from harness.programs.workers import wait_until
from harness.servers.api_server import api
from shared.infra.settings import Settings
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import Scope

SPOKEN = silence(0.4) + say(1, 2, 3) + silence(0.8)


@pytest.fixture
def locked(servers: Settings, hearer: ToneHearer) -> Iterator[httpx.Client]:
    with api(servers.model_copy(update={"auth": "on"}), hearer.make) as client:
        yield client


@pytest.fixture
def key(pool: Engine) -> str:
    return create_key(pool, "default", "a page's server's", {Scope.LIVE})[1]


def token_of(client: httpx.Client, key: str) -> str:
    answer = client.post("/tokens", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 201
    return str(answer.json()["token"])


def write(path: Path, pcm: bytes) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        file.writeframes(pcm)
    return path


def test_what_the_page_sends_with_a_token_opens_one_session(locked: httpx.Client, key: str) -> None:
    """As page.js does it: the page without a key, the token as subprotocol, the page's Origin."""
    assert locked.get("/live").status_code == 200
    script = locked.get("/live/page.js").text
    assert '["longhand", key.value.trim()]' in script
    offered = {
        "subprotocols": ["longhand", token_of(locked, key)],
        "origin": str(locked.base_url).rstrip("/"),
    }
    with live(locked, **offered) as page:
        assert page.connection.subprotocol == "longhand"
        started = page.start(session_id="a page's", config={"sample_rate": 16_000})
        assert started["type"] == "session_started"
        page.stream(SPOKEN)
        page.send({"type": "flush"})
        page.send({"type": "end_session"})
        messages, _ = page.read_all()
        said = [each["text"] for each in messages if each["type"] == "final_transcript"]
        assert " ".join(filter(None, said)) == texts(1, 2, 3)
    with pytest.raises(InvalidStatus) as refused, live(locked, **offered):
        pass
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body or b"")["code"] == "unauthenticated"


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")
def test_a_browsers_page_needs_a_token_and_takes_it_from_its_field(
    locked: httpx.Client, key: str, tmp_path: Path
) -> None:
    microphone = write(tmp_path / "microphone.wav", silence(1.5) + say(1, 2, 3) + silence(2.0))
    told = "document.getElementById('status').textContent"
    with chromium(microphone) as page:
        page.open(str(locked.base_url.join("/live")))
        page.value("toggle.click()")
        wait_until(lambda: page.value("toggle.textContent") == "Start")
        assert page.value(told) not in ("Listening.", "The microphone is off.")
        page.value(f"document.getElementById('key').value = ' {token_of(locked, key)} '")
        page.value("toggle.click()")
        wait_until(lambda: page.value(told) == "Listening.")
        page.value("toggle.click()")
        wait_until(lambda: page.value(told) == "The microphone is off.")


def test_listen_sends_the_key_of_the_environment_and_says_where_one_is_needed(
    locked: httpx.Client, key: str, pool: Engine, tmp_path: Path
) -> None:
    path = write(tmp_path / "words.wav", SPOKEN)
    there = ("listen", path, "--server", str(locked.base_url).rstrip("/"))
    heard = longhand(*there, LONGHAND_API_KEY=f" {key}\n")
    assert (heard.returncode, heard.stdout, heard.stderr) == (0, f"{texts(1, 2, 3)}\n", "")
    _, deaf = create_key(pool, "default", "of another scope", {Scope.JOBS_READ})
    for wrong in ("", "lh_live_wrong", deaf):
        refused = longhand(*there, LONGHAND_API_KEY=wrong)
        assert (refused.returncode, refused.stdout) == (1, "")
        (line,) = refused.stderr.splitlines()
        assert line.startswith("longhand: error: ")
        assert line.endswith("wants an API key with the scope 'live': set LONGHAND_API_KEY")
