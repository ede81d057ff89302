"""A server that stops: readiness first, then each session's finals, then the close."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api import app as application
from api.app import create_app, drain_sessions, end_waits
from harness.live.audio import say, silence, texts
from harness.live.clients import live, of
from harness.live.hearers import ToneHearer
from harness.programs.workers import fleet, wait_until
from harness.servers.api_server import api_process, confined, serving
from shared.infra.settings import Settings


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sessions take long to end, where a test does not say how long they may."""
    monkeypatch.setattr(application, "PAUSE_S", 60.0)
    monkeypatch.setattr(application, "FINAL_S", 60.0)


@contextmanager
def stopping(
    settings: Settings, hearer: ToneHearer
) -> Iterator[tuple[httpx.Client, threading.Event]]:
    """Serve the API; the server begins to stop when the event is set."""
    stop, urls, served = threading.Event(), [], threading.Event()
    app = create_app(confined(settings), hearer.make)

    async def drain() -> None:
        await drain_sessions(app)

    def run() -> None:
        with serving(app, on_stop=lambda: end_waits(app), drain=drain) as url:
            urls.append(url)
            served.set()
            stop.wait(60)

    thread = threading.Thread(target=run)
    thread.start()
    assert served.wait(60)
    try:
        with httpx.Client(base_url=urls[0], timeout=60) as client:
            client.get("/health/live")
            yield client, stop
    finally:
        stop.set()
        thread.join(90)
        assert not thread.is_alive()


def test_a_talker_is_heard_to_the_next_pause_and_then_told_to_come_back(
    servers: Settings, hearer: ToneHearer
) -> None:
    with stopping(servers, hearer) as (client, stop), live(client) as talker:
        talker.start(config={"lang_code": "en"})
        talker.stream(silence(0.3) + say(1, 2, 3))
        talker.read_until("partial_transcript")
        stop.set()
        readiness = wait_for_503(client)
        with suppress(ConnectionClosed):  # it ends within the silence
            talker.stream(silence(0.06) + say(4, 5) + silence(0.8))
        messages, code = talker.read_all()

    assert readiness["status"] == "unavailable"
    assert of("final_transcript", messages)[-1]["text"] == texts(1, 2, 3, 4, 5)
    assert messages[-1]["type"] == "session_ended"
    assert messages[-1]["reason"] == "error"
    assert code == 1012


def test_a_talker_who_does_not_pause_is_cut_off_with_a_final(
    servers: Settings, hearer: ToneHearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "PAUSE_S", 0.5)
    with stopping(servers, hearer) as (client, stop), live(client) as talker:
        talker.start(config={"lang_code": "en"})
        talker.send(silence(0.3) + say(1, 2, 3))  # it is heard whole before the first partial
        talker.read_until("partial_transcript")
        stop.set()
        messages, code = talker.read_all()

    assert of("final_transcript", messages)[-1]["text"] == texts(1, 2, 3)
    assert code == 1012


def test_a_session_whose_final_never_comes_does_not_hold_up_the_end(
    servers: Settings, hearer: ToneHearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "PAUSE_S", 0.2)
    monkeypatch.setattr(application, "FINAL_S", 0.2)
    with stopping(servers, hearer) as (client, stop), live(client) as talker:
        talker.start(config={"lang_code": "en"})
        hearer.silent = True
        talker.stream(silence(0.3) + say(1, 2, 3))
        talker.read_until("vad_event")
        stop.set()
        messages, code = talker.read_all()

    assert not of("final_transcript", messages)
    assert code == 1012


def test_no_session_begins_while_the_server_stops(servers: Settings, hearer: ToneHearer) -> None:
    with (
        stopping(servers, hearer) as (client, stop),
        live(client) as talker,
        live(client) as late,
    ):
        talker.start(config={"lang_code": "en"})
        talker.stream(silence(0.3) + say(1, 2, 3))
        talker.read_until("partial_transcript")
        stop.set()
        messages, code = late.read_all()
        with pytest.raises(InvalidStatus, match="503"), live(client):
            pass
        talker.send({"type": "end_session"})
        talker.read_all()

    assert (messages, code) == ([], 1012)


def wait_for_503(client: httpx.Client) -> dict[str, str]:
    end = time.monotonic() + 60
    while (answer := client.get("/health/ready")).status_code != 503:
        assert time.monotonic() < end
    readiness: dict[str, str] = answer.json()
    return readiness


def test_a_session_that_a_stop_ends_goes_on_elsewhere(
    servers: Settings,
    hearer: ToneHearer,
    client: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(application, "PAUSE_S", 0.5)
    speech = silence(0.3) + say(1, 2, 3) + silence(0.8) + say(4, 5) + silence(0.8)
    with stopping(servers, hearer) as (old, stop), live(old) as talker:
        token = talker.start(config={"lang_code": "en"})["resume_token"]
        talker.stream(speech[:48_000])
        talker.read_until("partial_transcript")
        stop.set()
        messages, code = talker.read_all()
    finals = of("final_transcript", messages)
    with live(client) as talker:
        started = talker.start(resume_token=token, last_segment=finals[-1]["segment_id"])
        talker.stream(speech[round(started["acked_ms"] * 32) :])
        talker.send({"type": "end_session"})
        messages, _ = talker.read_all()
    finals += of("final_transcript", messages)

    assert code == 1012
    assert [final["text"] for final in finals if final["text"]] == [texts(1, 2, 3), texts(4, 5)]
    assert messages[-1]["total_audio_ms"] == len(speech) / 32


def test_sigterm_ends_the_sessions_of_a_process_with_their_finals(
    servers: Settings, tmp_path: Path
) -> None:
    speech = silence(0.3) + say(1, 2, 3)
    settings = servers.model_copy(update={"live_max_wait_ms": 60_000.0})  # a call may take long
    with (
        fleet(settings, tmp_path) as workers,
        api_process(settings, tmp_path / "api.log") as (client, pid),
    ):
        workers.start("model", "--model", "oracle")
        wait_until(lambda: client.get("/health/status").json()["accepting_requests"])
        with live(client) as talker, live(client) as writer, live(client) as listener:
            for each in (talker, writer, listener):
                each.start(config={"lang_code": "en"})
            listener.stream(silence(0.3))
            writer.stream(speech)
            writer.read_until("partial_transcript")
            talker.stream(speech)
            talker.read_until("partial_transcript")

            os.kill(pid, signal.SIGTERM)
            readiness = wait_for_503(client)
            writer.send({"type": "flush"})
            with suppress(ConnectionClosed):  # it ends within the silence
                talker.stream(silence(0.06) + say(4, 5) + silence(0.8))
            ends = [each.read_all() for each in (talker, writer, listener)]

    finals = [[final["text"] for final in of("final_transcript", end)] for end, _ in ends]
    assert readiness["status"] == "unavailable"
    assert finals == [[texts(1, 2, 3, 4, 5)], [texts(1, 2, 3)], []]
    assert [(end[-1]["type"], end[-1]["reason"]) for end, _ in ends] == [
        ("session_ended", "error")
    ] * 3
    assert [code for _, code in ends] == [1012] * 3
