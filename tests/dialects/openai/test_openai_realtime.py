"""Transcription sessions of OpenAI's realtime API: its own SDK, and the beta's events by hand."""

import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from openai import OpenAI
from openai.types.realtime import RealtimeTranscriptionSessionCreateRequestParam
from sqlalchemy import Engine
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from api.dialects.openai.tables import REALTIME
from harness.clients.sdk_fields import keys, unknown_parameters
from harness.live.audio import say, silence, texts
from harness.live.hearers import ToneHearer
from harness.live.voices import spoken
from harness.servers.patient import connect
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import Scope

SENTENCE = silence(0.5) + say(1, 2, 3, 4) + silence(0.8)
TRANSCRIPTION = "conversation.item.input_audio_transcription"
PATH = "/v1/realtime?intent=transcription"


def at_24_khz(pcm: bytes) -> bytes:
    samples = np.frombuffer(pcm, "<i2")
    at = np.arange(len(samples) * 3 // 2) * 2 / 3
    return np.interp(at, np.arange(len(samples)), samples).astype("<i2").tobytes()


@contextmanager
def session(served: tuple[httpx.Client, str], **headers: str) -> Iterator["Talker"]:
    client, key = served
    url = str(client.base_url.copy_with(scheme="ws")).rstrip("/") + PATH
    sent = {"Authorization": f"Bearer {key}", **headers}
    with connect(url, additional_headers=sent, compression=None) as connection:
        yield Talker(connection)


class Talker:
    """A client that sends and reads JSON."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    def send(self, kind: str, **members: Any) -> None:
        self._connection.send(json.dumps({"type": kind, **members}))

    def append(self, pcm: bytes) -> None:
        audio = at_24_khz(pcm)
        for start in range(0, len(audio), 9_001):  # samples are split between messages
            piece = b64encode(audio[start : start + 9_001]).decode()
            self.send("input_audio_buffer.append", audio=piece)

    def read(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self._connection.recv(timeout=60))
        assert event["event_id"]
        return event

    def read_until(self, kind: str) -> list[dict[str, Any]]:
        events = [self.read()]
        while events[-1]["type"] != kind:
            events.append(self.read())
        return events


def configured(**audio_input: Any) -> dict[str, Any]:
    return {"type": "transcription", "audio": {"input": audio_input}}


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Return the events' types, each run of equal ones once."""
    found = [event["type"] for event in events]
    return [kind for i, kind in enumerate(found) if i == 0 or found[i - 1] != kind]


def test_every_field_of_the_sdks_session_has_a_row() -> None:
    names = keys(RealtimeTranscriptionSessionCreateRequestParam)
    leaves = {name for name in names if not any(each.startswith(f"{name}.") for each in names)}
    assert len(leaves) > 10
    assert unknown_parameters(leaves, REALTIME) == set()


def test_the_sdk_hears_a_sentence(served: tuple[httpx.Client, str]) -> None:
    client, key = served
    base = str(client.base_url).rstrip("/") + "/v1"
    openai = OpenAI(base_url=base, api_key=key, max_retries=0)
    with openai.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        assert connection.recv().type == "session.created"
        connection.session.update(
            session={
                "type": "transcription",
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcm", "rate": 24000},
                        "noise_reduction": {"type": "near_field"},
                        "transcription": {
                            "model": "gpt-4o-transcribe",
                            "prompt": "",
                            "language": "en",
                        },
                        "turn_detection": {
                            "type": "server_vad",
                            "threshold": 0.5,
                            "prefix_padding_ms": 300,
                            "silence_duration_ms": 500,
                        },
                    }
                },
                "include": ["item.input_audio_transcription.logprobs"],
            }
        )
        assert connection.recv().type == "session.updated"
        connection.input_audio_buffer.append(audio=b64encode(at_24_khz(SENTENCE)).decode())
        told = ""
        while (event := connection.recv()).type != f"{TRANSCRIPTION}.completed":
            if event.type == f"{TRANSCRIPTION}.delta":
                told += event.delta or ""
    assert event.transcript == told == texts(1, 2, 3, 4)
    assert event.usage.type == "duration"
    assert [each.token.strip() for each in event.logprobs or ()] == texts(1, 2, 3, 4).split()


def test_an_item_has_its_events_in_order_and_items_follow_each_other(
    served: tuple[httpx.Client, str],
) -> None:
    with session(served) as talker:
        created = talker.read()
        talker.append(SENTENCE)
        first = talker.read_until(f"{TRANSCRIPTION}.completed")
        talker.append(say(5) + silence(0.8))
        second = talker.read_until(f"{TRANSCRIPTION}.completed")
    assert created["session"]["type"] == "transcription"
    assert created["session"]["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}
    order = [
        *("input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"),
        *("input_audio_buffer.committed", f"{TRANSCRIPTION}.completed"),
    ]
    for events in (first, second):
        assert [kind for kind in kinds(events) if not kind.endswith("delta")] == order
        assert len({event["item_id"] for event in events}) == 1
    started, stopped, committed = (
        first[0],
        *(next(event for event in first if event["type"] == kind) for kind in order[1:3]),
    )
    assert started["audio_start_ms"] == pytest.approx(500, abs=40)
    assert stopped["audio_end_ms"] == pytest.approx(1640, abs=40)
    assert committed["previous_item_id"] is None
    (later,) = [event for event in second if event["type"] == "input_audio_buffer.committed"]
    assert later["previous_item_id"] == committed["item_id"] != later["item_id"]
    assert second[-1]["transcript"] == texts(5)


def test_without_turn_detection_a_commit_ends_an_item(
    served: tuple[httpx.Client, str], hearer: ToneHearer
) -> None:
    with session(served) as talker:
        talker.send("session.update", session=configured(turn_detection=None))
        *_, updated = talker.read_until("session.updated")
        talker.append(say(1) + silence(1.5) + say(2))
        talker.send("input_audio_buffer.commit")
        events = talker.read_until(f"{TRANSCRIPTION}.completed")
    assert updated["session"]["audio"]["input"]["turn_detection"] is None
    assert kinds(events)[-1] == f"{TRANSCRIPTION}.completed"
    assert "input_audio_buffer.committed" in kinds(events)
    assert not any("speech" in kind for kind in kinds(events))
    assert events[-1]["transcript"] == texts(1, 2)


def test_silence_ends_an_item_whatever_turns_a_client_wants(
    served: tuple[httpx.Client, str],
) -> None:
    wanted = {"type": "semantic_vad", "eagerness": "low", "prefix_padding_ms": 600}
    with session(served) as talker:
        talker.send("session.update", session=configured(turn_detection=wanted))
        *_, updated = talker.read_until("session.updated")
        talker.append(SENTENCE)
        *_, completed = talker.read_until(f"{TRANSCRIPTION}.completed")
    shown = updated["session"]["audio"]["input"]["turn_detection"]
    assert (shown["type"], shown["prefix_padding_ms"]) == ("server_vad", 300)
    assert completed["transcript"] == texts(1, 2, 3, 4)


def test_what_is_cleared_is_not_transcribed(served: tuple[httpx.Client, str]) -> None:
    with session(served) as talker:
        talker.send("session.update", session=configured(turn_detection=None))
        talker.read_until("session.updated")
        talker.append(say(1, 2))
        talker.send("input_audio_buffer.clear")
        talker.read_until("input_audio_buffer.cleared")
        talker.append(say(3) + silence(0.2))
        talker.send("input_audio_buffer.commit")
        *_, completed = talker.read_until(f"{TRANSCRIPTION}.completed")
    assert completed["transcript"] == texts(3)


def test_an_item_that_was_committed_is_completed_although_the_buffer_is_cleared(
    served: tuple[httpx.Client, str], hearer: ToneHearer
) -> None:
    hearer.silent = True
    try:
        with session(served) as talker:
            talker.append(say(1, 2) + silence(0.8))
            *_, committed = talker.read_until("input_audio_buffer.committed")
            talker.send("input_audio_buffer.clear")
            talker.read_until("input_audio_buffer.cleared")
            hearer.silent = False
            *_, completed = talker.read_until(f"{TRANSCRIPTION}.completed")
    finally:
        hearer.silent = False
    assert (completed["item_id"], completed["transcript"]) == (committed["item_id"], texts(1, 2))


def test_keywords_reach_the_model(
    served: tuple[httpx.Client, str], hearer: ToneHearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearer, "models", frozenset({"whisper-base"}))
    asked = {"model": "whisper-base", "keywords": ["Godot", "Lucky"]}
    with session(served) as talker:
        talker.send("session.update", session=configured(transcription=asked))
        talker.append(spoken())
        talker.send("input_audio_buffer.commit")
        talker.read_until(f"{TRANSCRIPTION}.completed")
    assert hearer.finals[-1].hotwords == "Godot, Lucky"


def test_the_beta_has_its_own_names(served: tuple[httpx.Client, str]) -> None:
    with session(served, **{"OpenAI-Beta": "realtime=v1"}) as talker:
        created = talker.read()
        talker.send(
            "transcription_session.update",
            session={
                "input_audio_format": "pcm16",
                "input_audio_transcription": {"model": "whisper-1", "language": "de"},
                "turn_detection": {"type": "server_vad", "silence_duration_ms": 300},
                "input_audio_noise_reduction": {"type": "near_field"},
            },
        )
        updated = talker.read()
        talker.append(SENTENCE)
        *_, completed = talker.read_until(f"{TRANSCRIPTION}.completed")
    assert created["type"] == "transcription_session.created"
    assert updated["type"] == "transcription_session.updated"
    shown = updated["session"]
    assert shown["input_audio_format"] == "pcm16"
    assert shown["input_audio_transcription"]["language"] == "de"
    assert shown["turn_detection"]["silence_duration_ms"] == 300
    assert shown["input_audio_noise_reduction"] is None
    assert completed["transcript"] == texts(1, 2, 3, 4)
    assert completed["languages"] == [{"code": "de"}]


def test_an_item_that_cannot_be_heard_has_failed(
    served: tuple[httpx.Client, str], hearer: ToneHearer
) -> None:
    hearer.error = lambda request: "engine_failed"
    try:
        with session(served) as talker:
            talker.append(SENTENCE)
            *_, failed = talker.read_until(f"{TRANSCRIPTION}.failed")
    finally:
        hearer.error = lambda request: None
    assert failed["error"]["code"] == "engine_failed"
    assert failed["content_index"] == 0


WRONG: list[tuple[dict[str, Any], str | None, str]] = [
    ({"type": "realtime"}, "type", "unsupported_parameter"),
    (
        configured(format={"type": "audio/pcmu"}),
        "audio.input.format.type",
        "unsupported_parameter",
    ),
    (
        configured(turn_detection={"type": "magic_vad"}),
        "audio.input.turn_detection.type",
        "unsupported_parameter",
    ),
    (
        configured(turn_detection={"type": "server_vad", "silence_duration_ms": 20}),
        "audio.input.turn_detection.silence_duration_ms",
        "invalid_parameter",
    ),
    (
        configured(transcription={"keywords": "Godot"}),
        "audio.input.transcription.keywords",
        "invalid_parameter",
    ),
    (
        configured(transcription={"language": "klingonish"}),
        "audio.input.transcription.language",
        "invalid_parameter",
    ),
    (configured(transcription={"model": "whisper-9"}), "model", "model_not_found"),
    (configured(voice="alloy"), "audio.input.voice", "invalid_parameter"),
    ({"type": "transcription", "include": ["all"]}, "include", "invalid_parameter"),
]


@pytest.mark.parametrize(("wrong", "param", "code"), WRONG, ids=lambda each: str(each)[:40])
def test_a_wrong_update_is_told_and_the_session_goes_on(
    served: tuple[httpx.Client, str], wrong: dict[str, Any], param: str | None, code: str
) -> None:
    with session(served) as talker:
        talker.read()
        talker.send("session.update", event_id="mine", session=wrong)
        refused = talker.read()
        talker.send("session.update", session=configured(transcription={"language": "en"}))
        assert talker.read()["type"] == "session.updated"
    error = refused["error"]
    assert refused["type"] == "error"
    assert (error["param"], error["code"], error["event_id"]) == (param, code, "mine")
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("kind", "members", "code"),
    [
        ("input_audio_buffer.commit", {}, "input_audio_buffer_commit_empty"),
        ("input_audio_buffer.append", {"audio": "%%%"}, "invalid_message"),
        ("input_audio_buffer.append", {"audio": "é==="}, "invalid_message"),
        ("response.create", {}, "invalid_message"),
    ],
)
def test_an_event_that_cannot_be_followed_is_an_error(
    served: tuple[httpx.Client, str], kind: str, members: dict[str, Any], code: str
) -> None:
    with session(served) as talker:
        talker.read()
        talker.send(kind, **members)
        event = talker.read()
    assert (event["type"], event["error"]["code"]) == ("error", code)


def test_only_the_language_may_change_once_the_session_has_begun(
    served: tuple[httpx.Client, str], hearer: ToneHearer
) -> None:
    with session(served) as talker:
        talker.read()
        talker.append(silence(0.2))
        talker.send("session.update", session=configured(transcription={"language": "fr"}))
        assert talker.read()["type"] == "session.updated"
        talker.send("session.update", session=configured(turn_detection=None))
        assert talker.read()["error"]["code"] == "invalid_parameter"
        talker.append(SENTENCE)
        *_, completed = talker.read_until(f"{TRANSCRIPTION}.completed")
    assert completed["languages"] == [{"code": "fr"}]


def test_strangers_and_other_sessions_are_refused_in_openais_form(
    served: tuple[httpx.Client, str], pool: Engine
) -> None:
    client, key = served
    _, reader = create_key(pool, "default", "a reader", [Scope.JOBS_READ])
    url = str(client.base_url.copy_with(scheme="ws")).rstrip("/")
    for path, sent, status, code in (
        (PATH, "sk-wrong", 401, "invalid_api_key"),
        (PATH, reader, 403, "scope_missing"),
        ("/v1/realtime?model=gpt-realtime", key, 400, "invalid_parameter"),
    ):
        with pytest.raises(InvalidStatus) as refused:
            connect(url + path, additional_headers={"Authorization": f"Bearer {sent}"})
        answer = refused.value.response
        assert answer.status_code == status
        assert json.loads(answer.body)["error"]["code"] == code
