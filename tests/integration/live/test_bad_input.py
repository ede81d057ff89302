"""What clients do wrong, or suffer: each has an error of the protocol, and harms no session."""

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from api.live import flow, incoming, outbox, requests, watch
from harness.live.audio import say, silence, texts
from harness.live.clients import LiveClient, live, of
from harness.live.hearers import ToneHearer, stop_clock
from harness.programs.workers import wait_until
from harness.servers.api_server import api
from shared.infra.errors import ModelError
from shared.infra.settings import Settings

SENTENCE = silence(0.5) + say(1, 2, 3) + silence(0.8)


@contextmanager
def other_session(client: httpx.Client) -> Iterator[None]:
    """Begin a session beforehand, and check afterwards that it still works."""
    with live(client) as talker:
        talker.start(config={"lang_code": "en"})
        talker.stream(SENTENCE[:15_000])  # nobody speaks yet, however long the rest takes
        yield
        talker.stream(SENTENCE[15_000:])
        assert talker.read_until("final_transcript")[-1]["text"] == texts(1, 2, 3)


def still_works(talker: LiveClient) -> bool:
    talker.stream(SENTENCE)
    return talker.read_until("final_transcript")[-1]["text"] == texts(1, 2, 3)


def active(client: httpx.Client) -> int:
    count: int = client.get("/health/status").json()["sessions"]["active"]
    return count


@pytest.mark.parametrize(
    "message",
    [
        "hello",
        "[]",
        "null",
        "",
        '{"type": "shout"}',
        '{"no": "type"}',
        '{"type": "flush", "more": 1}',
        '{"type": "start_session", "config": {"sample_rate": 11026}}',
        '{"type": "start_session", "config": {"encoding": "mp3"}}',
        '{"type": "start_session", "config": {"vad_threshold": 2}}',
        '{"type": "start_session", "config": {"lang_code": "klingonese"}}',
        '{"type": "start_session", "config": {"speed": "fast"}}',
        '{"type": "start_session", "config": {"model": "no-such-model"}}',
        '{"type": "start_session", "session_id": ""}',
        '{"type": "start_session", "session_id": "a\\u0000"}',
        '{"type": "start_session", "config": {"mask": "a\\u0000", "save": true}}',
        "[" * 100_000,
        '{"type": "flush"}',
        '{"type": "end_session"}',
        '{"type": "cancel"}',
        b"\0\0",
    ],
    ids=lambda message: repr(message)[:40],
)
def test_what_cannot_be_followed_before_a_session_is_an_invalid_message(
    client: httpx.Client, message: str | bytes
) -> None:
    with other_session(client), live(client) as talker:
        talker.send(message)
        error = talker.read()
        talker.start(config={"lang_code": "en"})

        assert (error["type"], error["code"]) == ("error", "INVALID_MESSAGE")
        assert still_works(talker)


@pytest.mark.parametrize("message", ["hello", '{"type": "shout"}', "{" * 1000])
def test_an_invalid_message_does_not_end_a_session(client: httpx.Client, message: str) -> None:
    with live(client) as talker:
        talker.start(config={"lang_code": "en"})
        talker.stream(SENTENCE[:20_000])
        talker.send(message)
        talker.stream(SENTENCE[20_000:])
        messages = talker.read_until("final_transcript")

    assert [error["code"] for error in of("error", messages)] == ["INVALID_MESSAGE"]
    assert messages[-1]["text"] == texts(1, 2, 3)


def test_samples_may_be_split_between_messages(client: httpx.Client) -> None:
    with live(client) as talker:
        talker.start(config={"lang_code": "en"})
        talker.stream(SENTENCE, frame_bytes=333)

        assert talker.read_until("final_transcript")[-1]["text"] == texts(1, 2, 3)


def test_a_second_start_is_refused_and_the_first_session_goes_on(client: httpx.Client) -> None:
    with live(client) as talker:
        talker.start(config={"lang_code": "en"})

        assert talker.start()["code"] == "SESSION_EXISTS"
        assert still_works(talker)


def test_a_session_id_in_use_is_refused_until_that_session_has_ended(
    client: httpx.Client,
) -> None:
    with live(client) as first, live(client) as second:
        first.start(session_id="same", config={"lang_code": "en"})
        refused = second.start(session_id="same")
        assert still_works(first)
        first.send({"type": "end_session"})
        first.read_all()
        taken = second.start(session_id="same")

    assert (refused["type"], refused["code"]) == ("error", "SESSION_EXISTS")
    assert taken["type"] == "session_started"


@pytest.mark.parametrize(
    "message", ['{"type": "' + "x" * 10_000_000 + '"}', bytes(16_000_000)], ids=["text", "binary"]
)
@pytest.mark.parametrize("path", ["/ws/stt", "/ws/transcribe"])
def test_a_message_that_is_too_large_closes_its_connection_alone(
    client: httpx.Client, message: str | bytes, path: str
) -> None:
    with other_session(client), live(client, path) as talker:
        with suppress(ConnectionClosed):
            talker.send(message)
        _, code = talker.read_all()

    assert code in (1009, 1006)  # the reset may overtake the close


def test_a_client_faster_than_real_time_loses_nothing(
    client: httpx.Client, hearer: ToneHearer
) -> None:
    hearer.delay_s = 0.2
    sentences = [range(at, at + 20) for at in range(0, 120, 20)]
    pcm = b"".join(silence(1) + say(*numbers) for numbers in sentences) + silence(1)
    with other_session(client), live(client) as talker:
        talker.start(config={"lang_code": "en"})
        talker.stream(pcm, frame_bytes=64_000)
        talker.send({"type": "end_session"})
        messages, _ = talker.read_all()

    assert [final["text"] for final in of("final_transcript", messages)] == [
        texts(*numbers) for numbers in sentences
    ]


def test_a_client_that_does_not_read_is_cut_off(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "STALL_S", 0.5)
    with other_session(client):
        before = active(client)
        with live(client, max_queue=1) as talker:
            talker.start(session_id="slow")
            with suppress(ConnectionClosed):
                for _ in range(200_000):
                    talker.send({"type": "flush"})
            wait_until(lambda: active(client) == before)


def test_a_client_that_vanishes_leaves_nothing_behind(
    client: httpx.Client, hearer: ToneHearer
) -> None:
    with other_session(client):
        before = active(client)
        hearer.silent = True
        with live(client) as talker:
            talker.start(config={"lang_code": "en"})
            talker.stream(silence(0.3) + say(1, 2, 3))
            wait_until(lambda: bool(hearer.requests))
            raw = talker.connection.socket
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Wakes the client's reader, which closes the socket. To close it here would reset
            # nothing: as long as a thread reads a socket it stays open.
            raw.shutdown(socket.SHUT_RD)
            wait_until(lambda: active(client) == before)
        hearer.silent = False

    assert hearer.cancelled


def test_a_client_is_told_once_that_answers_are_late(
    client: httpx.Client, hearer: ToneHearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "LATE_S", 0.1)
    monkeypatch.setattr(watch, "LOOK_S", 0.05)
    hearer.silent = True
    with live(client) as talker:
        talker.start(config={"lang_code": "en"})
        talker.stream(SENTENCE)
        messages = talker.read_until("error")
        time.sleep(0.3)
        hearer.silent = False
        messages += talker.read_until("final_transcript")

    assert [error["code"] for error in of("error", messages)] == ["QUEUE_CONGESTION"]
    assert messages[-1]["text"] == texts(1, 2, 3)


def test_speech_whose_audio_stops_is_final_after_a_moment(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "STALL_S", 0.3)
    with live(client) as talker:
        talker.start(config={"lang_code": "en"})
        talker.send(silence(0.3) + say(1, 2, 3))

        assert talker.read_until("final_transcript")[-1]["text"] == texts(1, 2, 3)


def test_a_talker_whose_workers_are_behind_is_not_cut_off_meanwhile(
    client: httpx.Client, hearer: ToneHearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.05)
    clock = stop_clock(monkeypatch)
    sentences = [range(at, at + 25) for at in range(0, 100, 25)]
    pcm = b"".join(silence(1) + say(*numbers) for numbers in sentences) + silence(1)
    hearer.silent = True
    with live(client) as talker:
        talker.start(config={"lang_code": "en"})
        talker.stream(pcm, frame_bytes=6_400)
        wait_until(lambda: len(hearer.finals) >= 2)
        clock.now += 2 * incoming.STALL_S
        time.sleep(0.6)
        n_asked = len(hearer.finals)
        hearer.silent = False
        talker.send({"type": "end_session"})
        messages, _ = talker.read_all()

    assert n_asked == 2  # of a backlog of more than 5 s, no more is read
    assert [final["text"] for final in of("final_transcript", messages)] == [
        texts(*numbers) for numbers in sentences
    ]


def test_a_detector_that_is_not_installed_is_told(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ModelError("The Silero VAD needs onnxruntime, which is not installed.")

    monkeypatch.setattr(flow, "LiveSession", fail)
    before = active(client)
    with live(client) as talker:
        error = talker.start(config={"lang_code": "en"})
        _, code = talker.read_all()

    assert (error["code"], code) == ("INTERNAL_ERROR", 1011)
    assert "onnxruntime" in error["message"]
    assert active(client) == before


def test_a_connection_without_a_session_is_closed(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "START_S", 0.2)
    with live(client) as talker:
        assert talker.read_all() == ([], 1008)


def test_a_bug_ends_its_session_and_no_other(
    client: httpx.Client, hearer: ToneHearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with other_session(client), live(client) as talker:
        talker.start(session_id="unlucky", config={"lang_code": "en"})

        def fail(_: Any) -> str:
            raise ValueError("a secret")

        with monkeypatch.context() as patch:
            patch.setattr("api.live.stt.confidence_of", fail)
            with suppress(ConnectionClosed):
                talker.stream(SENTENCE[:44_000])
            messages, code = talker.read_all()

    assert code == 1011
    (error,) = of("error", messages)
    assert error["code"] == "INTERNAL_ERROR"
    assert "secret" not in error["message"]
    assert messages[-1]["reason"] == "error"


def test_a_session_that_says_nothing_for_long_ends(servers: Settings, hearer: ToneHearer) -> None:
    settings = servers.model_copy(update={"live_idle_s": 0.2})
    with api(settings, hearer.make) as client, live(client) as talker:
        talker.start(config={"lang_code": "en"})
        messages, code = talker.read_all()

    assert messages[-1]["reason"] == "timeout"
    assert code == 1000
    assert len(messages) == 1


def test_sessions_beyond_the_most_are_refused_until_one_ends(
    servers: Settings, hearer: ToneHearer
) -> None:
    settings = servers.model_copy(update={"live_max_sessions": 1})
    with api(settings, hearer.make) as client:
        with live(client) as first, live(client) as second:
            first.start(config={"lang_code": "en"})
            refused = second.start()
            _, code = second.read_all()
            first.send({"type": "end_session"})
            first.read_all()
        with live(client) as third:
            taken = third.start()

    assert (refused["code"], code) == ("MAX_SESSIONS_REACHED", 1013)
    assert taken["type"] == "session_started"
