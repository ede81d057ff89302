"""Who may connect, and what the log says of it."""

import logging
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from harness.live.clients import live
from harness.live.hearers import ToneHearer
from harness.servers.api_server import api, api_process
from shared.infra.settings import Settings


@pytest.mark.parametrize("path", ["/ws/stt", "/ws/transcribe"])
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1", "null", "http://", "x"]
)
def test_a_page_of_another_host_may_not_connect(
    client: httpx.Client, origin: str, path: str
) -> None:
    with pytest.raises(InvalidStatus) as refused, live(client, path, origin=origin):
        pass

    assert refused.value.response.status_code == 403


def test_a_page_of_the_same_host_and_a_client_without_a_page_may_connect(
    client: httpx.Client,
) -> None:
    for scheme in ("http", "https"):  # a proxy may end TLS
        with live(client, origin=f"{scheme}://{client.base_url.netloc.decode()}") as talker:
            assert talker.start()["type"] == "session_started"
    with live(client) as talker:
        assert talker.start()["type"] == "session_started"


def test_origins_that_the_setting_names_may_connect(servers: Settings, hearer: ToneHearer) -> None:
    names = "https://a.example, https://App.example:8443"
    settings = servers.model_copy(update={"allowed_origins": names})
    with (
        api(settings, hearer.make) as client,
        live(client, origin="https://app.example:8443") as talker,
    ):
        assert talker.start()["type"] == "session_started"


def test_connections_without_a_session_are_limited(servers: Settings, hearer: ToneHearer) -> None:
    settings = servers.model_copy(update={"live_max_sessions": 1})
    with (
        api(settings, hearer.make) as client,
        live(client),
        live(client),
        pytest.raises(InvalidStatus) as refused,
        live(client),
    ):
        pass

    assert refused.value.response.status_code == 503
    assert refused.value.response.headers["retry-after"] == "5"


def test_no_log_line_has_a_query_string(servers: Settings, tmp_path: Path) -> None:
    settings = servers.model_copy(update={"log_level": "DEBUG"})
    log = tmp_path / "api.log"
    with api_process(settings, log) as (client, _):
        for path in ("/ws/stt?token=hush", "/ws/transcribe?token=hush"):
            with live(client, path) as talker:
                talker.send("no JSON")
                assert talker.read()["type"] == "error"
        with (
            pytest.raises(InvalidStatus),
            live(client, "/ws/stt?token=hush", origin="https://evil.example"),
        ):
            pass
        with pytest.raises(InvalidStatus), live(client, "/ws/nothing?token=hush"):
            pass

    text = log.read_text()
    assert "uvicorn" in text
    assert "hush" not in text


def test_a_session_is_logged_with_its_length_and_its_end(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "api.live"), live(client) as talker:
        talker.start(session_id="not-told")
        talker.stream(bytes(32_000))
        talker.send({"type": "end_session"})
        talker.read_all()

    assert "/ws/stt: completed after 1.0 s of audio, 0 finals" in caplog.text
    assert "not-told" not in caplog.text
