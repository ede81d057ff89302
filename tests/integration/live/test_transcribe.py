"""``/ws/transcribe``: audio in, the text of the whole session out."""

import asyncio
import json
from contextlib import suppress
from typing import Any
from unittest.mock import ANY

import httpx
import pytest
import websockets

from harness.live.audio import say, silence, texts
from harness.live.clients import LiveClient, live, of
from harness.live.hearers import ToneHearer

PATH = "/ws/transcribe"
FIRST = silence(0.5) + say(1, 2, 3) + silence(1)
SECOND = len(FIRST)
TALK = FIRST + say(4, 5) + silence(0.2)


def heard_in_silence(talker: LiveClient, text: str) -> list[dict[str, Any]]:
    """Send silence until an interim has this text, and return all interims before and with it."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["text"] != text:
        talker.send(silence(0.02))
        with suppress(TimeoutError):
            found.append(talker.read(0.05))
    return found


def test_a_session_has_interims_and_one_final_of_everything(client: httpx.Client) -> None:
    with live(client, PATH) as talker:
        talker.send({"type": "config", "language": "pt", "detect_language": False})
        talker.stream(TALK[:SECOND])
        interims = heard_in_silence(talker, texts(1, 2, 3))
        talker.stream(TALK[SECOND:])
        talker.send({"type": "end"})
        messages, code = talker.read_all()

    assert code == 1000
    assert {message["type"] for message in interims} == {"interim"}
    assert messages[-1] == {
        "type": "final",
        "text": texts(1, 2, 3, 4, 5),
        "language": "pt",
        "chunks": [
            {"text": texts(1, 2, 3), "timestamp": pytest.approx([0.5, 1.34], abs=0.02)},
            {"text": texts(4, 5), "timestamp": [ANY, ANY]},
        ],
    }


def test_audio_without_a_config_is_english(client: httpx.Client, hearer: ToneHearer) -> None:
    with live(client, PATH) as talker:
        talker.stream(TALK)
        talker.send({"type": "end"})
        messages, _ = talker.read_all()

    assert messages[-1]["language"] == "en"
    assert {request.language for request in hearer.requests} == {"en"}


def test_a_session_without_audio_has_an_empty_final(client: httpx.Client) -> None:
    with live(client, PATH) as talker:
        talker.send({"type": "end"})
        messages, code = talker.read_all()

    assert messages == [{"type": "final", "text": "", "language": "en", "chunks": []}]
    assert code == 1000


def test_a_later_config_changes_the_language_of_what_follows(
    client: httpx.Client, hearer: ToneHearer
) -> None:
    with live(client, PATH) as talker:
        talker.stream(silence(0.3) + say(1) + silence(0.8))
        heard_in_silence(talker, texts(1))
        talker.send({"type": "config", "detect_language": True})
        talker.stream(say(2) + silence(0.8))
        talker.send({"type": "end"})
        talker.read_all()

    assert [request.language for request in hearer.finals] == ["en", None]


def test_what_is_no_message_is_answered_by_an_error_and_changes_nothing(
    client: httpx.Client,
) -> None:
    with live(client, PATH) as talker:
        talker.stream(TALK[:32_000])
        for wrong in ("no JSON", '{"type": "stop"}', '{"type": "config", "language": 7}'):
            talker.send(wrong)
        talker.stream(TALK[32_000:])
        talker.send({"type": "end"})
        messages, _ = talker.read_all()

    assert len(of("error", messages)) == 3
    assert all(set(error) == {"type", "message"} for error in of("error", messages))
    assert messages[-1]["text"] == texts(1, 2, 3, 4, 5)


def test_a_client_that_looks_for_one_message_after_each_second_reads_its_final_next(
    client: httpx.Client,
) -> None:
    """It sends a second of audio at a time, takes the interim that follows, if any, and goes on."""
    pcm = silence(0.5) + say(*range(12)) + silence(1) + say(*range(12, 30)) + silence(0.3)

    async def transcribe() -> list[dict[str, Any]]:
        url = str(client.base_url.copy_with(scheme="ws")).rstrip("/") + PATH
        found = []
        async with websockets.connect(url, open_timeout=60) as socket:
            await socket.send(json.dumps({"type": "config", "language": "en"}))
            for start in range(0, len(pcm), 32_000):
                await socket.send(pcm[start : start + 32_000])
                await socket.send("?")  # its error is told behind all that the audio led to
                told = [json.loads(await socket.recv())]
                while told[-1]["type"] != "error":
                    told.append(json.loads(await socket.recv()))
                assert len(told) <= 2
                found += told[:-1]
                await asyncio.sleep(0.1)  # there are new texts meanwhile, and nothing is told
            await socket.send(json.dumps({"type": "end"}))
            found.append(json.loads(await socket.recv()))
        return found

    *interims, final = asyncio.run(transcribe())

    assert final["type"] == "final"
    assert final["text"] == texts(*range(30))
    assert interims
    assert {message["type"] for message in interims} == {"interim"}
