"""Sessions of ``/ws/stt`` that go on after their connection broke."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.access import authenticator
from api.access.principal import ANYBODY
from harness.live.audio import say, silence, texts
from harness.live.clients import LiveClient, live, of
from harness.live.hearers import ToneHearer
from harness.programs.workers import fleet, wait_until
from harness.servers.api_server import api, api_process, rerouted
from shared.infra.settings import Settings

CONFIG = {"lang_code": "pt", "partial_results": False}
FIRST, SECOND, THIRD = (
    silence(0.4) + say(*numbers) + silence(0.8) for numbers in ((1, 2, 3), (4, 5, 6), (7, 8))
)
SPEECH = FIRST + SECOND + THIRD
MIDDLE = len(FIRST) + 26_000
"""A place within the second sentence, where a word is cut in two."""
BYTES_PER_MS = 32


@pytest.fixture
def other(servers: Settings, hearer: ToneHearer) -> Iterator[httpx.Client]:
    """Another server of the same platform."""
    with api(servers, hearer.make) as client:
        yield client


def break_off(talker: LiveClient) -> None:
    with suppress(OSError):
        talker.connection.socket.shutdown(socket.SHUT_RDWR)


def begin(talker: LiveClient, pcm: bytes, **members: Any) -> tuple[str, list[dict[str, Any]]]:
    """Send audio up to the middle of a sentence; return the token and the finals so far."""
    started = talker.start(config=CONFIG, **members)
    talker.stream(pcm)
    finals = of("final_transcript", talker.read_until("final_transcript"))
    return started["resume_token"], finals


def go_on(
    talker: LiveClient, token: str, last_segment: str, pcm: bytes = SPEECH
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Resume, send what is not acknowledged, end; return the answer and all messages."""
    started = talker.start(resume_token=token, last_segment=last_segment)
    assert started["type"] == "session_started", started
    talker.stream(pcm[round(started["acked_ms"] * BYTES_PER_MS) :])
    talker.send({"type": "end_session"})
    messages, code = talker.read_all()
    assert code == 1000
    return started, messages


def said(finals: list[dict[str, Any]]) -> str:
    return " ".join(final["text"] for final in finals if final["text"])


def assert_whole(finals: list[dict[str, Any]], ended: dict[str, Any]) -> None:
    """Check that every word is there once, at the time at which it was said."""
    assert said(finals) == texts(1, 2, 3, 4, 5, 6, 7, 8)
    first_words = [final["words"][0]["start"] for final in finals if final["words"]]
    begins = [0.4, len(FIRST) / 32_000 + 0.4, len(FIRST + SECOND) / 32_000 + 0.4]
    assert first_words == pytest.approx(begins, abs=0.05)
    assert len({final["segment_id"] for final in finals}) == len(finals)
    assert ended["total_audio_ms"] == pytest.approx(len(SPEECH) / BYTES_PER_MS)
    assert ended["total_segments"] == len(finals)
    assert ended["reason"] == "completed"


@pytest.mark.parametrize("where", ["the same server", "another server"])
def test_no_word_is_lost_or_doubled_when_a_session_goes_on(
    client: httpx.Client, other: httpx.Client, where: str
) -> None:
    with live(client) as talker:
        token, finals = begin(talker, SPEECH[:MIDDLE], session_id="mine")
        break_off(talker)
    with live(client if where == "the same server" else other) as talker:
        started, messages = go_on(talker, token, finals[-1]["segment_id"])

    assert (started["session_id"], started["resume_token"]) == ("mine", token)
    assert {message["session_id"] for message in messages} == {"mine"}
    rest = of("final_transcript", messages)
    assert {final["language"] for final in rest} == {"pt"}
    assert_whole(finals + rest, messages[-1])


def test_a_session_goes_on_more_than_once(client: httpx.Client, other: httpx.Client) -> None:
    with live(client) as talker:
        token, finals = begin(talker, SPEECH[:MIDDLE])
        break_off(talker)
    with live(other) as talker:
        started = talker.start(resume_token=token, last_segment=finals[-1]["segment_id"])
        talker.stream(SPEECH[round(started["acked_ms"] * BYTES_PER_MS) :][: len(SECOND) + 30_000])
        finals += of("final_transcript", talker.read_until("final_transcript"))
        break_off(talker)
    with live(client) as talker:
        _, messages = go_on(talker, token, finals[-1]["segment_id"])

    assert_whole(finals + of("final_transcript", messages), messages[-1])


def test_finals_that_a_client_does_not_have_are_told_again_in_order(
    client: httpx.Client, other: httpx.Client
) -> None:
    with live(client) as talker:
        token, first = begin(talker, FIRST + SECOND + THIRD[:30_000])
        second = of("final_transcript", talker.read_until("final_transcript"))
        break_off(talker)
    with live(other) as talker:
        started = talker.start(resume_token=token)
        again = [talker.read(), talker.read()]
        break_off(talker)
    with live(other) as talker:
        _, messages = go_on(talker, token, first[0]["segment_id"])

    assert again == first + second
    end_ms = second[0]["start_ms"] + second[0]["audio_duration_ms"]
    assert started["acked_ms"] == pytest.approx(end_ms)
    assert messages[0] == second[0]
    assert_whole(first + of("final_transcript", messages), messages[-1])


def test_another_tenants_token_and_a_wrong_one_are_refused_alike(
    client: httpx.Client, other: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live(client) as talker:
        token, finals = begin(talker, SPEECH[:MIDDLE])
        break_off(talker)
    with live(other) as talker:
        wrong = talker.start(session_id="x", resume_token="wrong")
        stale = talker.start(session_id="x", resume_token=token, last_segment="unknown")
        started = talker.start()  # the connection may have a new session still
    stranger = replace(ANYBODY, tenant="somebody else")
    monkeypatch.setattr(authenticator, "ANYBODY", stranger)
    with live(other) as talker:
        foreign = talker.start(session_id="x", resume_token=token)
    monkeypatch.undo()
    with live(other) as talker:
        _, messages = go_on(talker, token, finals[-1]["segment_id"])

    assert (wrong["type"], wrong["code"]) == ("error", "SESSION_NOT_FOUND")
    assert wrong == stale == foreign
    assert started["type"] == "session_started"
    assert_whole(finals + of("final_transcript", messages), messages[-1])


@pytest.mark.parametrize("where", ["the same server", "another server"])
def test_the_older_connection_is_displaced(
    client: httpx.Client, other: httpx.Client, where: str
) -> None:
    with live(client) as older, live(client if where == "the same server" else other) as newer:
        token, finals = begin(older, SPEECH[:MIDDLE])
        _, messages = go_on(newer, token, finals[-1]["segment_id"])
        last, code = older.read_all()

    assert_whole(finals + of("final_transcript", messages), messages[-1])
    assert of("final_transcript", last) == []
    assert [message["code"] for message in of("error", last)] == ["SESSION_DISPLACED"]
    assert last[-1]["type"] == "session_ended"
    assert code == 1008


def test_a_canceled_session_cannot_be_resumed(client: httpx.Client) -> None:
    with live(client) as talker:
        token, _ = begin(talker, SPEECH[:MIDDLE])
        talker.send({"type": "cancel"})
        talker.read_all()
    with live(client) as talker:
        assert talker.start(resume_token=token)["code"] == "SESSION_NOT_FOUND"


def test_a_session_goes_on_while_redis_is_away_and_cannot_be_resumed(
    servers: Settings, hearer: ToneHearer
) -> None:
    with (
        rerouted(servers, "broker_url") as (changed, relay),
        api(changed, hearer.make) as client,
    ):
        with live(client) as talker:
            token, finals = begin(talker, SPEECH[:MIDDLE])
            relay.go_away()
            talker.stream(SPEECH[MIDDLE:])
            talker.send({"type": "end_session"})
            messages, code = talker.read_all()
        with live(client) as talker:
            refused = talker.start(resume_token=token)
            _, refused_code = talker.read_all()
        with live(client) as talker:
            unkept = talker.start()

    assert_whole(finals + of("final_transcript", messages), messages[-1])
    assert code == 1000
    assert (refused["code"], refused_code) == ("QUEUE_CONGESTION", 1013)
    assert (unkept["type"], unkept["resume_token"]) == ("session_started", None)


def test_finals_of_an_outage_of_redis_are_stored_when_it_is_back(
    servers: Settings, hearer: ToneHearer, other: httpx.Client
) -> None:
    with (
        rerouted(servers, "broker_url") as (changed, relay),
        api(changed, hearer.make) as client,
        live(client) as talker,
    ):
        token, first = begin(talker, FIRST)
        relay.go_away()
        talker.stream(SECOND)
        second = of("final_transcript", talker.read_until("final_transcript"))
        relay.come_back()
        talker.stream(THIRD)
        third = of("final_transcript", talker.read_until("final_transcript"))
        break_off(talker)
        with live(other) as again:
            _, messages = go_on(again, token, first[-1]["segment_id"])

    assert messages[:2] == second + third
    assert_whole(first + of("final_transcript", messages), messages[-1])


def test_a_session_outlives_the_kill_of_its_process(servers: Settings, tmp_path: Path) -> None:
    with fleet(servers, tmp_path) as workers, ExitStack() as stack:
        workers.start("model", "--model", "oracle")
        first, pid = stack.enter_context(api_process(servers, tmp_path / "first.log"))
        second, _ = stack.enter_context(api_process(servers, tmp_path / "second.log"))
        for client in (first, second):
            wait_until(lambda c=client: c.get("/health/status").json()["accepting_requests"])
        with live(first) as talker:
            token, finals = begin(talker, SPEECH[:MIDDLE])
            os.kill(pid, signal.SIGKILL)
        with live(second) as talker:
            _, messages = go_on(talker, token, finals[-1]["segment_id"])

    assert_whole(finals + of("final_transcript", messages), messages[-1])
