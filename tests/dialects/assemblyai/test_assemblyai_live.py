"""AssemblyAI's streaming API: its own SDK, and its messages by hand."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import numpy as np
import pytest
from assemblyai.streaming.v3 import (
    AsyncRealTimeTranscriber,
    BeginEvent,
    RealTimeError,
    RealTimeEvents,
    RealTimeParameters,
    RealTimeSessionParameters,
    RealTimeTranscriber,
    RealTimeTranscriberOptions,
    TerminationEvent,
    TurnEvent,
)
from assemblyai.streaming.v3.models import SpeechStartedEvent, WarningEvent
from pydantic import BaseModel
from sqlalchemy import Engine
from websockets.exceptions import ConnectionClosed, InvalidStatus

from harness.live.audio import companded, say, silence, texts
from harness.live.clients import LiveClient, live, of
from harness.live.hearers import IDLE, ToneHearer, hasten
from harness.live.voices import VoiceHearer, quietly, spoken
from harness.media.webm import encode_webm
from harness.programs.workers import wait_until
from shared.speech.live.requests import LiveAnswer, LiveRequest
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import Scope

SENTENCE = silence(0.5) + say(1, 2, 3, 4) + silence(0.8)
NOISE = np.random.default_rng(7).integers(-9_000, 9_000, 6_400).astype("<i2").tobytes()
WHISPER = "whisper-base"
"""A model of the catalogue that takes words to expect."""
PLAIN = {"sample_rate": "16000", "speech_model": "universal-streaming-english"}
KINDS: dict[str, type[BaseModel]] = {
    "Begin": BeginEvent,
    "Turn": TurnEvent,
    "SpeechStarted": SpeechStartedEvent,
    "Termination": TerminationEvent,
    "Warning": WarningEvent,
}


class DetectingHearer(VoiceHearer):
    """Takes what is said for French unless it is told the language."""

    async def hear(self, request: LiveRequest) -> LiveAnswer:
        answer = await super().hear(request)
        if answer.hypothesis is None or request.language is not None:
            return answer
        return replace(answer, hypothesis=replace(answer.hypothesis, language="fr"))


@pytest.fixture(scope="module")
def hearer() -> VoiceHearer:
    return DetectingHearer()


def options(served: tuple[httpx.Client, str], key: str = "") -> RealTimeTranscriberOptions:
    host = str(served[0].base_url.copy_with(scheme="ws")).rstrip("/")
    # A busy machine may need longer than the SDK's second.
    return RealTimeTranscriberOptions(api_host=host, api_key=key or served[1], connect_timeout=60)


@contextmanager
def session(
    served: tuple[httpx.Client, str], query: dict[str, Any] | None = None, **sent: Any
) -> Iterator[LiveClient]:
    client, key = served
    path = f"/v3/ws?{urlencode(PLAIN if query is None else query)}"
    with live(client, path, **(sent or {"additional_headers": {"Authorization": key}})) as talker:
        yield talker


def closed(talker: LiveClient) -> tuple[list[dict[str, Any]], int]:
    """Return all messages up to the end, each as the SDK's types read it."""
    messages, code = talker.read_all()
    for message in messages:
        if (kind := KINDS.get(message["type"])) is not None:
            kind.model_validate(message)
    return messages, code


def ends(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in of("Turn", messages) if each["end_of_turn"]]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "audio.raw"
    path.write_bytes(SENTENCE)
    return path


def stream_file(path: Path, chunk_s: float = 0.1, pause_s: float = 0.02) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(int(16_000 * chunk_s) * 2):
            yield chunk
            time.sleep(pause_s)


def test_the_quick_start_prints_what_is_said_in_a_file(
    served: tuple[httpx.Client, str], recording: Path
) -> None:
    heard: list[Any] = []
    client = RealTimeTranscriber(options(served))
    for event in (RealTimeEvents.Begin, RealTimeEvents.Turn, RealTimeEvents.Termination):
        client.on(event, lambda _, told: heard.append(told))
    failed: list[RealTimeError] = []
    client.on(RealTimeEvents.Error, lambda _, error: failed.append(error))
    client.connect(RealTimeParameters(sample_rate=16000, speech_model="universal-3-5-pro"))

    def spoken() -> Iterator[bytes]:
        for n, chunk in enumerate(stream_file(recording)):
            if n == 15:  # nobody pauses yet; a partial turn need not be quicker than the end
                wait_until(lambda: len(heard) > 1 or failed)
            yield chunk

    try:
        client.stream(spoken())
    finally:
        client.disconnect(terminate=True)
    assert failed == []
    begin, *turns, termination = heard
    assert isinstance(begin, BeginEvent)
    assert [(each.end_of_turn, each.turn_is_formatted) for each in turns[-2:]] == [
        (False, False),
        (True, True),
    ]
    assert turns[-1].transcript == texts(1, 2, 3, 4)
    assert [word.text for word in turns[-1].words] == texts(1, 2, 3, 4).split()
    assert {each.turn_order for each in turns} == {0}
    assert termination.audio_duration_seconds == round(len(SENTENCE) / 32_000)


def test_the_asynchronous_client_hears_the_same(
    served: tuple[httpx.Client, str], recording: Path
) -> None:
    turns: list[TurnEvent] = []

    async def stream() -> AsyncIterator[bytes]:
        for chunk in stream_file(recording, pause_s=0.0):
            yield chunk
            await asyncio.sleep(0.01)

    async def main() -> None:
        async with AsyncRealTimeTranscriber(options(served)) as client:
            client.on(RealTimeEvents.Turn, lambda _, told: turns.append(told))
            await client.connect(
                RealTimeParameters(sample_rate=16000, speech_model="universal-3-5-pro")
            )
            await client.stream(stream())
            while not any(each.end_of_turn for each in turns):  # the first is told as it began
                await asyncio.sleep(0.01)
            await client.keep_alive()
            await client.set_params(RealTimeSessionParameters(format_turns=False))
            await client.stream(say(5))
            await client.force_endpoint()

    asyncio.run(main())
    said = [(each.transcript, each.turn_is_formatted) for each in turns if each.end_of_turn]
    assert said == [(texts(1, 2, 3, 4), True), (texts(5).lower(), False)]


def test_words_and_times_are_those_of_the_native_socket(served: tuple[httpx.Client, str]) -> None:
    client, key = served
    spoken = SENTENCE + say(5, 6) + silence(0.8)
    with live(client, additional_headers={"Authorization": f"Bearer {key}"}) as talker:
        talker.start(config={"lang_code": "en"})
        talker.stream(spoken, 3_200)
        talker.send({"type": "end_session"})
        native = of("final_transcript", talker.read_all()[0])
    with session(served, {**PLAIN, "format_turns": "True", "language_code": "en"}) as talker:
        talker.stream(spoken, 3_200)
        talker.send({"type": "Terminate"})
        messages, code = closed(talker)
    formatted = [each for each in ends(messages) if each["turn_is_formatted"]]
    assert [each["transcript"] for each in formatted] == [each["text"] for each in native]
    for final, turn in zip(native, formatted, strict=True):
        assert [
            (word["word"], round(1000 * word["start"]), round(1000 * word["end"]))
            for word in final["words"]
        ] == [(word["text"], word["start"], word["end"]) for word in turn["words"]]
    # Each end comes in bare words first.
    assert [(each["turn_order"], each["turn_is_formatted"]) for each in ends(messages)] == [
        (0, False),
        (0, True),
        (1, False),
        (1, True),
    ]
    assert ends(messages)[0]["transcript"] == texts(1, 2, 3, 4).lower()
    assert (messages[-1]["type"], code) == ("Termination", 1000)


def test_a_turn_grows_by_words_that_stay(served: tuple[httpx.Client, str]) -> None:
    with session(served) as talker:
        assert talker.read()["type"] == "Begin"
        talker.stream(silence(0.5) + say(*range(1, 12)), 1_280, pause_s=0.015)
        messages = talker.read_until("Turn")
        while not messages[-1]["transcript"]:  # words that stay need not be quicker than the end
            messages += talker.read_until("Turn")
        talker.send(silence(0.8))
        talker.send({"type": "Terminate"})
        messages += closed(talker)[0]
    assert {each["type"] for each in messages} == {"Turn", "Termination"}
    *partials, end = of("Turn", messages)
    assert partials
    told = ""
    for partial in partials:
        stable = [word["text"] for word in partial["words"] if word["word_is_final"]]
        assert partial["transcript"] == " ".join(stable)
        assert partial["transcript"].startswith(told)
        told = partial["transcript"]
    assert end["transcript"].startswith(told)
    assert told
    assert end["transcript"] == end["utterance"] == texts(*range(1, 12)).lower()
    assert (end["end_of_turn_confidence"], partials[0]["end_of_turn_confidence"]) == (1.0, 0.0)


def test_other_models_tell_all_words_and_when_speech_begins(
    served: tuple[httpx.Client, str],
) -> None:
    with session(served, {"sample_rate": 16_000, "speech_model": "u3-rt-pro"}) as talker:
        talker.stream(SENTENCE[:-25_600], 1_280, pause_s=0.01)
        messages = talker.read_until("Turn")  # a partial one need not be quicker than the end
        talker.send(SENTENCE[-25_600:])
        talker.send({"type": "Terminate"})
        messages += closed(talker)[0]
    assert [each["type"] for each in messages[:2]] == ["Begin", "SpeechStarted"]
    assert messages[1]["timestamp"] == pytest.approx(500, abs=50)
    first = of("Turn", messages)[0]
    assert first["transcript"] == " ".join(word["text"] for word in first["words"])
    assert not all(word["word_is_final"] for word in first["words"])


def test_a_forced_end_is_answered_also_in_silence_and_noise_is_no_turn(
    served: tuple[httpx.Client, str], hearer: ToneHearer
) -> None:
    hearer.requests.clear()
    with session(served, {**PLAIN, "include_partial_turns": "false"}) as talker:
        talker.read()
        talker.send(silence(1.0))
        talker.send({"type": "ForceEndpoint"})
        empty = talker.read()
        talker.send(say(7))
        talker.send({"type": "ForceEndpoint"})
        said = talker.read()
        talker.send(silence(1.0) + NOISE + silence(1.0))
        talker.send({"type": "Terminate"})
        messages, _ = closed(talker)
    assert len(hearer.finals) == 2  # the noise was heard
    assert [(each["transcript"], each["turn_order"]) for each in (empty, said)] == [
        ("", 0),
        (texts(7).lower(), 1),
    ]
    assert [each["type"] for each in messages] == ["Termination"]


def test_an_update_changes_what_ends_a_turn(served: tuple[httpx.Client, str]) -> None:
    spoken = say(1, 2) + silence(0.6) + say(3, 4) + silence(1.3)
    with session(served, {**PLAIN, "max_turn_silence": "1000"}) as talker:
        talker.send(silence(0.3) + spoken)
        before = [talker.read()]
        while not ends(before):
            before.append(talker.read())
        talker.send({"type": "UpdateConfiguration", "max_turn_silence": 300, "prompt": None})
        talker.send(spoken)
        talker.send({"type": "Terminate"})
        messages, _ = closed(talker)
    assert [each["transcript"] for each in ends(before)] == [texts(1, 2, 3, 4).lower()]
    assert [each["transcript"] for each in ends(messages)] == [
        texts(1, 2).lower(),
        texts(3, 4).lower(),
    ]


@pytest.mark.parametrize(
    ("query", "audio"),
    [
        ({"encoding": "pcm_mulaw", "sample_rate": 8_000}, companded(SENTENCE, "mulaw")),
        ({"encoding": "ogg_opus"}, encode_webm(SENTENCE, container="ogg")),
        ({"encoding": "aac"}, encode_webm(SENTENCE, container="adts", encoder="aac")),
    ],
    ids=["mulaw", "ogg", "aac"],
)
def test_other_encodings_are_heard_as_well(
    served: tuple[httpx.Client, str], query: dict[str, Any], audio: bytes
) -> None:
    with session(served, {"speech_model": "u3-rt-pro", **query}) as talker:
        talker.stream(audio, 8_000)
        talker.send({"type": "Terminate"})
        messages, code = closed(talker)
    assert [each["transcript"] for each in ends(messages)] == [texts(1, 2, 3, 4)]
    assert code == 1000


def test_a_detected_language_is_told(served: tuple[httpx.Client, str]) -> None:
    with session(served, {**PLAIN, "language_codes": '["en", "fr"]'}) as talker:
        talker.send(SENTENCE)
        talker.send({"type": "Terminate"})
        (end,) = ends(closed(talker)[0])
    assert "language_code" not in end
    with session(served, {**PLAIN, "language_detection": "True"}) as talker:
        talker.send(SENTENCE)
        talker.send({"type": "Terminate"})
        (end,) = ends(closed(talker)[0])
    assert end["language_code"] == "fr"


TALK = say(1, 2, 3, 4, 5, 6) + silence(0.8)


@pytest.mark.parametrize("model", ["universal-streaming-english", "u3-rt-pro"])
def test_the_sdk_tells_who_says_each_turn(served: tuple[httpx.Client, str], model: str) -> None:
    told: list[TurnEvent] = []
    transcriber = RealTimeTranscriber(options(served))
    transcriber.on(RealTimeEvents.Turn, lambda _, turn: told.append(turn))
    transcriber.connect(
        RealTimeParameters(
            sample_rate=16_000, speech_model=model, speaker_labels=True, max_speakers=2
        )
    )
    transcriber.stream([TALK, quietly(TALK), TALK])
    transcriber.disconnect(terminate=True)

    finished = [turn for turn in told if turn.end_of_turn]
    assert [turn.speaker_label for turn in finished] == ["A", "B", "A"]
    assert [{word.speaker for word in turn.words} for turn in finished] == [{"A"}, {"B"}, {"A"}]
    assert {turn.speaker_label for turn in told if not turn.end_of_turn} <= {None}


def test_a_session_without_a_worker_for_speakers_warns_and_goes_on(
    served: tuple[httpx.Client, str], hearer: VoiceHearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearer, "models", frozenset({"oracle"}))
    with session(served, {**PLAIN, "speaker_labels": "True"}) as talker:
        talker.send(SENTENCE)
        talker.send({"type": "Terminate"})
        messages, code = closed(talker)
    assert [each["type"] for each in messages[:2]] == ["Begin", "Warning"]
    assert [(each["speaker_label"], code) for each in ends(messages)] == [(None, 1000)]


def test_words_to_expect_reach_the_model_and_an_update_replaces_them(
    served: tuple[httpx.Client, str], hearer: VoiceHearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearer, "models", frozenset({WHISPER}))
    query = {
        "sample_rate": "16000",
        "speech_model": WHISPER,
        "keyterms_prompt": '["Godot", "Lucky"]',
    }
    with session(served, query) as talker:
        talker.send(spoken())
        talker.send({"type": "ForceEndpoint"})
        while not ends([talker.read()]):
            pass
        first = hearer.finals[-1].hotwords
        talker.send({"type": "UpdateConfiguration", "keyterms_prompt": ["Pozzo"]})
        talker.send(spoken())
        talker.send({"type": "Terminate"})
        closed(talker)
    assert (first, hearer.finals[-1].hotwords) == ("Godot, Lucky", "Pozzo")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "sample_rate"),
    ({"sample_rate": "123"}, "sample_rate"),
    ({**PLAIN, "encoding": "opus"}, "encoding"),
    ({**PLAIN, "speech_model": "oracle", "keyterms_prompt": '["Godot"]'}, "hotwords"),
    ({**PLAIN, "keyterms_prompt": "Godot"}, "keyterms_prompt"),
    ({**PLAIN, "max_speakers": "0"}, "max_speakers"),
    ({**PLAIN, "redact_pii": "True"}, "redact_pii"),
    ({**PLAIN, "speech_model": "no-such"}, "no-such"),
    ({**PLAIN, "language_code": "klingonish"}, "language"),
    ({**PLAIN, "language_codes": "en"}, "language_codes"),
    ({**PLAIN, "vad_threshold": "2"}, "vad_threshold"),
    ({**PLAIN, "speechModel": "x"}, "speech_model"),
]


@pytest.mark.parametrize(("query", "named"), WRONG, ids=lambda each: str(each)[-40:])
def test_what_cannot_be_done_is_an_error_with_its_close_code(
    served: tuple[httpx.Client, str], query: dict[str, Any], named: str
) -> None:
    with session(served, query) as talker:
        with suppress(ConnectionClosed):  # which may be closed by now
            talker.send(silence(0.1))
        messages, code = talker.read_all()
        reason = talker.connection.close_reason or ""
    assert [(each["type"], each["error_code"]) for each in messages] == [("Error", 3006)]
    assert named in messages[0]["error"]
    assert messages[0]["error"].startswith(reason)
    assert (code, bool(reason)) == (3006, True)


@pytest.mark.parametrize(
    "wrong",
    [
        "no JSON",
        "[]",
        '{"type": "Speak"}',
        '{"type": "UpdateConfiguration", "sample_rate": 8000}',
        '{"type": "UpdateConfiguration", "filter_profanity": true}',
    ],
)
def test_a_malformed_message_ends_the_session(served: tuple[httpx.Client, str], wrong: str) -> None:
    with session(served) as talker:
        talker.send(wrong)
        messages, code = talker.read_all()
    assert [each["type"] for each in messages] == ["Begin", "Error"]
    assert (messages[1]["error_code"], code) == (3006, 3006)


def test_a_turn_that_cannot_be_heard_is_a_warning(
    served: tuple[httpx.Client, str], hearer: ToneHearer
) -> None:
    hearer.error = lambda request: "engine_failed"
    try:
        with session(served) as talker:
            talker.send(SENTENCE)
            talker.send({"type": "Terminate"})
            messages, code = closed(talker)
    finally:
        hearer.error = lambda request: None
    assert [each["type"] for each in messages] == ["Begin", "Warning", "Termination"]
    assert code == 1000


def test_a_client_that_is_silent_for_too_long_is_told(
    served: tuple[httpx.Client, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, 20)
    with session(served, {**PLAIN, "inactivity_timeout": "5"}) as talker:
        messages, code = talker.read_all()
    assert [each["type"] for each in messages] == ["Begin", "Error"]
    assert (messages[1]["error_code"], code) == (4031, 4031)
    assert messages[1]["error"] == "nothing was sent for 5 s"


@pytest.mark.parametrize(
    ("busy", "code"), [(replace(IDLE, workers=0), 1013), (replace(IDLE, depth=10_000), 1013)]
)
def test_no_session_begins_where_nobody_could_hear_it(
    served: tuple[httpx.Client, str], hearer: ToneHearer, busy: Any, code: int
) -> None:
    hearer.now = busy
    try:
        with session(served) as talker:
            (error,), closed_with = talker.read_all()
    finally:
        hearer.now = IDLE
    assert (error["type"], error["error_code"], closed_with) == ("Error", code, code)


def test_keys_and_scopes_and_the_ways_to_send_them(
    served: tuple[httpx.Client, str], pool: Engine
) -> None:
    client, key = served
    _, reader = create_key(pool, "default", "a reader", [Scope.JOBS_READ])
    errors: list[RealTimeError] = []
    stranger = RealTimeTranscriber(options(served, "lh_live_wrong"))
    stranger.on(RealTimeEvents.Error, lambda _, error: errors.append(error))
    stranger.connect(RealTimeParameters(sample_rate=16000))
    stranger.disconnect()
    assert [error.code for error in errors] == [401]

    answer = client.get(
        "/v3/token", params={"expires_in_seconds": 60}, headers={"Authorization": key}
    )
    token = answer.json()["token"]
    assert answer.json() == {"token": token, "expires_in_seconds": 60}
    with session(served, {**PLAIN, "token": token}, additional_headers={}) as browser:
        assert browser.read()["type"] == "Begin"
    for query, headers, status in (
        ({"token": token}, {}, 401),  # it is used up
        ({"token": key}, {}, 401),  # a key is not taken in a query
        ({}, {"Authorization": reader}, 403),
    ):
        with (
            pytest.raises(InvalidStatus) as refused,
            session(served, {**PLAIN, **query}, additional_headers=headers),
        ):
            pass
        assert refused.value.response.status_code == status
        assert set(json.loads(refused.value.response.body or b"")) == {"error"}
    for wrong in ({"expires_in_seconds": "0"}, {"max_session_duration_seconds": "60"}):
        answer = client.get("/v3/token", params=wrong, headers={"Authorization": key})
        assert answer.status_code == 400
        assert min(wrong) in answer.json()["error"]


def test_a_client_that_leaves_ends_its_session(served: tuple[httpx.Client, str]) -> None:
    client, key = served
    with session(served) as talker:
        talker.send(silence(0.3) + say(1, 2))
        assert talker.read()["type"] == "Begin"
    headers = {"Authorization": f"Bearer {key}"}

    def n_active() -> int:
        status = client.get("/health/status", headers=headers).json()
        return int(status["sessions"]["active"])

    wait_until(lambda: not n_active())
