"""Deepgram's live API: its own SDK, and its messages by hand."""

import asyncio
import hashlib
import io
import json
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from deepgram import AsyncDeepgramClient, DeepgramClient
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment
from deepgram.listen.v1.types import (
    ListenV1Metadata,
    ListenV1Results,
    ListenV1SpeechStarted,
    ListenV1UtteranceEnd,
)
from pydantic import BaseModel
from sqlalchemy import Engine
from websockets.exceptions import InvalidStatus

from harness.live.audio import companded, say, silence, texts
from harness.live.clients import LiveClient, live, of
from harness.live.hearers import IDLE, ToneHearer, hasten
from harness.live.voices import VoiceHearer, quietly, spoken
from harness.media.webm import encode_webm
from harness.programs.workers import wait_until
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import Scope

SENTENCE = silence(0.5) + say(1, 2, 3, 4) + silence(0.8)
WHISPER = "whisper-base"
"""A model of the catalogue that takes words to expect."""
PCM = {"model": "nova-3", "encoding": "linear16", "sample_rate": "16000"}
KINDS: dict[str, type[BaseModel]] = {
    "Results": ListenV1Results,
    "Metadata": ListenV1Metadata,
    "SpeechStarted": ListenV1SpeechStarted,
    "UtteranceEnd": ListenV1UtteranceEnd,
}


@pytest.fixture(scope="module")
def hearer() -> VoiceHearer:
    return VoiceHearer()


def environment(served: tuple[httpx.Client, str]) -> DeepgramClientEnvironment:
    base = str(served[0].base_url).rstrip("/")
    socket = base.replace("http", "ws", 1)
    return DeepgramClientEnvironment(base=base, production=socket, agent=socket, agent_rest=base)


@contextmanager
def session(
    served: tuple[httpx.Client, str], query: dict[str, Any] | None = None, **options: Any
) -> Iterator[LiveClient]:
    client, key = served
    path = f"/v1/listen?{urlencode(PCM if query is None else query, doseq=True)}"
    options = options or {"additional_headers": {"Authorization": f"Token {key}"}}
    with live(client, path, **options) as talker:
        yield talker


def closed(talker: LiveClient) -> tuple[list[dict[str, Any]], int]:
    """Return all messages up to the end, each as strict as the SDK's types are."""
    messages, code = talker.read_all()
    for message in messages:
        if (kind := KINDS.get(message["type"])) is not None:
            kind.model_validate(message, strict=True)
    return messages, code


def finals(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in of("Results", messages) if each["is_final"]]


def transcripts(results: list[dict[str, Any]]) -> list[str]:
    return [each["channel"]["alternatives"][0]["transcript"] for each in results]


def wav(pcm: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        writer.writeframes(pcm)
    return file.getvalue()


def test_the_quick_start_prints_what_is_said_in_a_file(served: tuple[httpx.Client, str]) -> None:
    """As the SDK's example streams a WAV file, without an encoding; it ends the stream as well."""
    client = DeepgramClient(api_key=served[1], environment=environment(served))
    printed: list[str] = []
    with client.listen.v1.connect(model="nova-3") as connection:

        def on_message(message: Any) -> None:
            if isinstance(message, ListenV1Results) and message.channel.alternatives:
                printed.append(message.channel.alternatives[0].transcript)

        connection.on(EventType.MESSAGE, on_message)
        listener = threading.Thread(target=connection.start_listening)
        listener.start()
        file = io.BytesIO(wav(SENTENCE))
        while chunk := file.read(8192):
            connection.send_media(chunk)
        connection.send_close_stream()
        listener.join(60)
    assert [text for text in printed if text] == [texts(1, 2, 3, 4)]


def test_the_asynchronous_client_hears_a_microphone(served: tuple[httpx.Client, str]) -> None:
    heard: list[Any] = []

    async def talk() -> None:
        client = AsyncDeepgramClient(api_key=served[1], environment=environment(served))
        async with client.listen.v1.connect(
            model="nova-3",
            language="en",
            encoding="linear16",
            sample_rate=16_000,
            channels=1,
            interim_results=True,
            smart_format=True,
        ) as connection:
            connection.on(EventType.MESSAGE, heard.append)
            listening = asyncio.create_task(connection.start_listening())
            await connection.send_keep_alive()
            for start in range(0, len(SENTENCE), 3_200):
                await connection.send_media(SENTENCE[start : start + 3_200])
                await asyncio.sleep(0.01)
            await connection.send_finalize()
            await connection.send_close_stream()
            await asyncio.wait_for(listening, 60)

    asyncio.run(talk())
    results = [each for each in heard if isinstance(each, ListenV1Results)]
    said = [each.channel.alternatives[0] for each in results if each.is_final]
    assert " ".join(filter(None, (each.transcript for each in said))) == texts(1, 2, 3, 4)
    assert [word.punctuated_word for word in said[0].words] == texts(1, 2, 3, 4).split()
    assert [each.from_finalize for each in results if each.is_final] == [False, True]
    assert isinstance(heard[-1], ListenV1Metadata)
    assert heard[-1].request_id == results[0].metadata.request_id


def test_words_and_times_are_those_of_the_native_socket(served: tuple[httpx.Client, str]) -> None:
    client, key = served
    spoken = SENTENCE + say(5, 6) + silence(0.8)
    with live(client, additional_headers={"Authorization": f"Bearer {key}"}) as talker:
        talker.start(config={"lang_code": "en"})
        talker.stream(spoken, 3_200)
        talker.send({"type": "end_session"})
        native = of("final_transcript", talker.read_all()[0])
    with session(served, {**PCM, "language": "en", "punctuate": "true"}) as talker:
        talker.stream(spoken, 3_200)
        talker.send({"type": "CloseStream"})
        messages, code = closed(talker)
    same = finals(messages)
    assert transcripts(same) == [final["text"] for final in native]
    for final, result in zip(native, same, strict=True):
        assert [(word["word"], word["start"], word["end"]) for word in final["words"]] == [
            (word["punctuated_word"], word["start"], word["end"])
            for word in result["channel"]["alternatives"][0]["words"]
        ]
    metadata = messages[-1]
    assert metadata["sha256"] == hashlib.sha256(spoken).hexdigest()
    assert metadata["duration"] == pytest.approx(len(spoken) / 32_000, abs=0.001)
    assert code == 1000


def test_finals_cover_the_session_and_every_kind_of_message_comes_in_its_place(
    served: tuple[httpx.Client, str],
) -> None:
    query = {
        **PCM,
        "language": "en-US",
        "interim_results": "true",
        "vad_events": "true",
        "utterance_end_ms": "1000",
        "endpointing": "300",
    }
    with session(served, query) as talker:
        talker.stream(silence(0.5) + say(1, 2, 3, 4), 1_280, pause_s=0.01)
        before = talker.read_until("Results")  # an interim need not be quicker than the final
        talker.send(silence(0.6))
        talker.stream(silence(1.0), 6_400, pause_s=0.02)
        before += talker.read_until("UtteranceEnd")
        talker.stream(say(5) + silence(0.8), 1_280)
        talker.send({"type": "CloseStream"})
        after, _ = closed(talker)
    kinds = [each["type"] for each in before]
    assert kinds[0] == "SpeechStarted"
    assert before[0]["timestamp"] == pytest.approx(0.5, abs=0.05)
    assert set(kinds[1:-1]) == {"Results"}
    assert [each["is_final"] for each in before[1:-1]] == [*[False] * (len(kinds) - 3), True]
    assert len(kinds) > 3  # there were interims
    first = before[-2]
    assert (first["start"], first["speech_final"], first["from_finalize"]) == (0.0, True, False)
    words = first["channel"]["alternatives"][0]["words"]
    assert before[-1]["last_word_end"] == words[-1]["end"]
    (second,) = finals(after)
    assert second["start"] == first["duration"]
    assert transcripts([first, second]) == [texts(1, 2, 3, 4).lower(), texts(5).lower()]
    assert "punctuated_word" not in words[0]
    assert of("UtteranceEnd", after) == []


def test_no_utterance_ends_between_words_whose_finals_are_late(
    served: tuple[httpx.Client, str], hearer: VoiceHearer
) -> None:
    hearer.silent = True
    try:
        with session(served, {**PCM, "utterance_end_ms": "1000"}) as talker:
            n_before = len(hearer.finals)
            talker.send(say(1, 2) + silence(0.7) + say(3, 4) + silence(0.7))
            wait_until(lambda: len(hearer.finals) == n_before + 2)
            hearer.silent = False
            talker.send({"type": "CloseStream"})
            messages, _ = closed(talker)
    finally:
        hearer.silent = False
    assert [each["type"] for each in messages] == ["Results", "Results", "Metadata"]


def test_a_finalize_is_answered_at_once_also_in_silence(served: tuple[httpx.Client, str]) -> None:
    with session(served) as talker:
        talker.send(silence(0.3))
        talker.send({"type": "Finalize"})
        empty = talker.read()
        talker.send(say(7))
        talker.send({"type": "Finalize"})
        (said,) = [each for each in talker.read_until("Results") if each["is_final"]]
    assert empty["from_finalize"]
    assert said["from_finalize"]
    assert said["speech_final"]
    assert transcripts([empty, said]) == ["", texts(7).lower()]


def test_silence_alone_has_only_metadata(served: tuple[httpx.Client, str]) -> None:
    with session(served) as talker:
        talker.send(silence(2.0))
        talker.send(b"")  # as clients of old end a stream
        messages, code = closed(talker)
    assert [each["type"] for each in messages] == ["Metadata"]
    assert code == 1000


def test_a_client_that_is_silent_for_too_long_is_closed_as_deepgram_does(
    served: tuple[httpx.Client, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, 10_000)
    with session(served) as talker:
        messages, code = closed(talker)
        reason = talker.connection.close_reason
    assert [each["type"] for each in messages] == ["Metadata"]
    assert (code, reason) == (1011, "NET-0001")


@pytest.mark.parametrize(
    ("query", "audio"),
    [
        ({"encoding": "mulaw", "sample_rate": 8_000}, companded(SENTENCE, "mulaw")),
        ({}, encode_webm(SENTENCE)),
        ({"sample_rate": 7, "encoding": "ogg-opus"}, encode_webm(SENTENCE, container="ogg")),
    ],
    ids=["mulaw", "webm", "ogg"],
)
def test_other_encodings_are_heard_as_well(
    served: tuple[httpx.Client, str], query: dict[str, Any], audio: bytes
) -> None:
    with session(served, {"model": "nova-3", "punctuate": "true", **query}) as talker:
        talker.stream(audio, 8_000)
        talker.send({"type": "CloseStream"})
        messages, code = closed(talker)
    assert transcripts(finals(messages)) == [texts(1, 2, 3, 4)]
    assert code == 1000


def test_what_is_no_audio_closes_the_connection_as_deepgram_does(
    served: tuple[httpx.Client, str],
) -> None:
    with session(served, {"model": "nova-3"}) as talker:
        talker.send(b"this is no audio" * 9_000)
        messages, code = talker.read_all()
        reason = talker.connection.close_reason
    assert [each["type"] for each in messages] == ["Error"]
    assert (code, reason) == (1008, "DATA-0000")


@pytest.mark.parametrize(
    "wrong", ["no JSON", "[]", '{"type": "Speak"}', '{"type": "Finalize", "channel": 3}']
)
def test_a_malformed_message_is_told_and_the_session_goes_on(
    served: tuple[httpx.Client, str], wrong: str
) -> None:
    with session(served) as talker:
        talker.send(wrong)
        error = talker.read()
        talker.send(SENTENCE)
        talker.send({"type": "CloseStream"})
        messages, _ = closed(talker)
    assert (error["type"], error["variant"], error["message"]) == ("Error", "SchemaError", wrong)
    assert transcripts(finals(messages)) == [texts(1, 2, 3, 4).lower()]


def test_configure_changes_the_format_and_says_what_it_cannot_change(
    served: tuple[httpx.Client, str],
) -> None:
    with session(served) as talker:
        for change, answer in (
            ({"features": {"smart_format": True}}, ("ConfigureSuccess", None)),
            ({"keyterms": ["Godot"]}, ("ConfigureFailure", "CONFIGURE_KEYTERMS_NOT_SUPPORTED")),
            ({"keyterms": [], "features": None}, ("ConfigureSuccess", None)),
            ({"keyterms": ["x" * 1_001]}, ("ConfigureFailure", "CONFIGURE_KEYTERM_LIMIT_EXCEEDED")),
            ({"features": {"numerals": True}}, ("ConfigureSuccess", None)),
            ({"features": {"vad_events": True}}, ("ConfigureFailure", "CONFIGURE_INTERNAL_ERROR")),
        ):
            talker.send({"type": "Configure", **change})
            told = talker.read()
            assert (told["type"], told.get("code")) == answer
        talker.send(SENTENCE)
        talker.send({"type": "CloseStream"})
        messages, _ = closed(talker)
    assert transcripts(finals(messages)) == [texts(1, 2, 3, 4)]


def test_a_segment_that_cannot_be_heard_is_told(
    served: tuple[httpx.Client, str], hearer: ToneHearer
) -> None:
    hearer.error = lambda request: "engine_failed"
    try:
        with session(served) as talker:
            talker.send(SENTENCE)
            talker.send({"type": "CloseStream"})
            messages, code = closed(talker)
    finally:
        hearer.error = lambda request: None
    assert [each["type"] for each in messages] == ["Error", "Results", "Metadata"]
    assert messages[0]["variant"] == "InferenceError"
    assert code == 1000


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": "nova-3", "encoding": "linear16"}, "sample_rate"),
    ({"model": "nova-3", "encoding": "linear16", "sample_rate": 123}, "sample_rate"),
    ({"model": "nova-3", "encoding": "g729"}, "encoding"),
    ({**PCM, "channels": "2"}, "channels"),
    ({**PCM, "model": "oracle", "keyterm": ["a", "b"]}, "hotwords"),
    ({**PCM, "keywords": "x" * 1_001}, "keyterm"),
    ({**PCM, "keywords": "a:-2"}, "keywords"),
    ({**PCM, "diarize_model": "v2"}, "diarize_model"),
    ({**PCM, "profanity_filter": "true"}, "profanity_filter"),
    ({**PCM, "redact": "pci"}, "redact"),
    ({**PCM, "endpointing": "soon"}, "endpointing"),
    ({**PCM, "utterance_end_ms": "10"}, "utterance_end_ms"),
    ({**PCM, "language": "klingonish"}, "language"),
    ({**PCM, "interim_result": "true"}, "interim_results"),
    ({**PCM, "model": "no-such"}, "no-such"),
    ({**PCM, "punctuate": ["true", "false"]}, "punctuate"),
]


@pytest.mark.parametrize(("query", "named"), REFUSED, ids=lambda each: str(each)[-40:])
def test_what_cannot_be_done_is_refused_at_the_handshake(
    served: tuple[httpx.Client, str], query: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidStatus) as refused, session(served, query):
        pass
    answer = refused.value.response
    assert answer.status_code == 400
    body = json.loads(answer.body or b"")
    assert set(body) == {"err_code", "err_msg", "request_id"}
    assert named in body["err_msg"]


def test_words_to_expect_reach_the_model_and_configure_replaces_them(
    served: tuple[httpx.Client, str], hearer: VoiceHearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearer, "models", frozenset({WHISPER}))
    query = {**PCM, "model": WHISPER, "keyterm": ["Godot", "Pozzo"], "keywords": "Lucky:2"}
    with session(served, query) as talker:
        talker.send(spoken())
        talker.send({"type": "Finalize"})
        talker.read_until("Results")
        first = hearer.finals[-1].hotwords
        talker.send({"type": "Configure", "keyterms": ["Estragon"]})
        (told,) = of("ConfigureSuccess", talker.read_until("ConfigureSuccess"))
        talker.send(spoken())
        talker.send({"type": "CloseStream"})
        closed(talker)
    assert (first, hearer.finals[-1].hotwords) == ("Godot, Pozzo, Lucky", "Estragon")
    assert told["keyterms"] == ["Estragon"]


def test_the_sdk_tells_who_says_each_word(served: tuple[httpx.Client, str]) -> None:
    said = say(1, 2, 3, 4, 5, 6) + silence(0.8)
    heard = diarized(served, said + quietly(said) + said, diarize="true", interim_results="true")
    told = [each for each in heard if each.is_final and each.channel.alternatives[0].words]

    assert [{word.speaker for word in each.channel.alternatives[0].words} for each in told] == [
        *({0}, {1}, {0})
    ]
    assert {each.metadata.diarize_info.arch for each in told} == {"campplus-seg3"}
    interim = [each for each in heard if not each.is_final]
    assert {word.speaker for each in interim for word in each.channel.alternatives[0].words} <= {
        None
    }


def test_spellings_and_numerals_of_the_sdk_are_told(
    served: tuple[httpx.Client, str], hearer: VoiceHearer
) -> None:
    one, two, three = texts(1), texts(2), texts(3)
    replace = [f"{one} {two}:twenty one", f"{three}:"]
    heard = diarized(served, SENTENCE, replace=replace, numerals="true")

    (told,) = [each for each in heard if each.channel.alternatives[0].words]
    assert told.channel.alternatives[0].transcript == f"21 {texts(4).lower()}"


def diarized(served: tuple[httpx.Client, str], pcm: bytes, **query: Any) -> list[ListenV1Results]:
    """Return the results of a session of the SDK, as strict as its types are."""
    client = DeepgramClient(api_key=served[1], environment=environment(served))
    heard: list[ListenV1Results] = []
    with client.listen.v1.connect(
        model="nova-3", encoding="linear16", sample_rate=16_000, **query
    ) as connection:

        def on_message(message: Any) -> None:
            if isinstance(message, ListenV1Results):
                heard.append(ListenV1Results.model_validate(message.model_dump(), strict=True))

        connection.on(EventType.MESSAGE, on_message)
        listener = threading.Thread(target=connection.start_listening)
        listener.start()
        connection.send_media(pcm)
        connection.send_close_stream()
        listener.join(60)
    return heard


def test_what_agents_always_send_is_taken(served: tuple[httpx.Client, str]) -> None:
    """LiveKit's plugin sends all of these, mostly as false."""
    off = dict.fromkeys(("profanity_filter", "numerals", "mip_opt_out", "diarize"), "false")
    on = dict.fromkeys(
        ("punctuate", "smart_format", "no_delay", "vad_events", "filler_words"), "true"
    )
    rest = {"channels": "1", "endpointing": "25", "language": "en-US", "interim_results": "true"}
    with session(served, {**PCM, **off, **on, **rest}) as talker:
        talker.send(SENTENCE)
        talker.send({"type": "CloseStream"})
        messages, _ = closed(talker)
    assert "".join(transcripts(finals(messages))).split() == texts(1, 2, 3, 4).split()


def test_keys_and_scopes_and_the_ways_to_send_them(
    served: tuple[httpx.Client, str], pool: Engine
) -> None:
    client, key = served
    _, reader = create_key(pool, "default", "a reader", [Scope.JOBS_READ])
    for sent, status, code in (
        ("lh_live_wrong", 401, "INVALID_AUTH"),
        (reader, 403, "INSUFFICIENT_PERMISSIONS"),
    ):
        headers = {"Authorization": f"Token {sent}"}
        with pytest.raises(InvalidStatus) as refused, session(served, additional_headers=headers):
            pass
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body or b"")["err_code"] == code
    stranger = DeepgramClient(api_key="lh_live_wrong", environment=environment(served))
    # The SDK of today passes this on, as it looks for the exception of an older library.
    with pytest.raises(InvalidStatus) as unknown, stranger.listen.v1.connect(model="nova-3"):
        pass
    assert unknown.value.response.status_code == 401

    token = DeepgramClient(api_key=key, environment=environment(served)).auth.v1.tokens.grant()
    assert token.expires_in == 60
    with session(served, subprotocols=["token", key]) as browser:
        assert browser.connection.subprotocol == "token"
    with session(served, subprotocols=["bearer", token.access_token]) as browser:
        assert browser.connection.subprotocol == "bearer"
    for headers in ({}, {"Authorization": f"Bearer {token.access_token}"}):  # it is used up
        with pytest.raises(InvalidStatus) as refused, session(served, additional_headers=headers):
            pass
        assert refused.value.response.status_code == 401
    lasting = client.post(
        "/v1/auth/grant", json={"ttl_seconds": 3600}, headers={"Authorization": f"Token {key}"}
    )
    assert (lasting.status_code, lasting.json()["err_code"]) == (400, "Bad Request")


def test_no_session_begins_where_nobody_could_hear_it(
    served: tuple[httpx.Client, str], hearer: ToneHearer
) -> None:
    hearer.now = replace(IDLE, workers=0)
    try:
        with pytest.raises(InvalidStatus) as refused, session(served):
            pass
    finally:
        hearer.now = IDLE
    answer = refused.value.response
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_a_client_that_leaves_ends_its_session(
    served: tuple[httpx.Client, str], hearer: ToneHearer
) -> None:
    client, key = served
    with session(served) as talker:
        talker.send(silence(0.3) + say(1, 2))
    headers = {"Authorization": f"Bearer {key}"}
    sessions = lambda: client.get("/health/status", headers=headers).json()["sessions"]  # noqa: E731
    wait_until(lambda: not sessions()["active"])
