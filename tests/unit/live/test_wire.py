"""What live requests, answers and beats are on their way through Redis."""

import json
from collections.abc import Callable

import pytest

from shared.queue.live.wire import (
    Ask,
    Beat,
    Reply,
    decode_ask,
    decode_beat,
    decode_reply,
    encode_ask,
    encode_beat,
    encode_reply,
)
from shared.speech.chunks.hypothesis import Hypothesis, WordHypothesis
from shared.speech.live.requests import LiveAnswer, LiveKind, LiveRequest
from shared.speech.speakers.voices import Voice

ASK = Ask(
    LiveRequest("r", "s", LiveKind.PARTIAL, "oracle", b"\x00\x01", "de", "translate", "Grüße"),
    api="a",
    first=True,
    alone=True,
)
HEARD = Hypothesis((WordHypothesis(" naïve", 0, 1600, 0.5),), "en", 0.9)
REPLY = Reply(LiveAnswer("r", HEARD, None, 1.5, 2.5, 3, "w"), since_call_ms=4.0)
VOICES = Reply(LiveAnswer("r", None, voices=(Voice((0.6, 0.8), 1.5, ((0.0, 1.0), (2.0, 2.5))),)))
FAILED = Reply(LiveAnswer("r", None, "device_out_of_memory"))
REPLIES = [REPLY, VOICES, FAILED]
BEAT = Beat("w", "oracle", ["r"], "r", 4, 10.0, 20.0, 30.0, stopping=True)


def test_asks_replies_and_beats_arrive_as_they_were_sent() -> None:
    assert decode_ask(encode_ask(ASK), ASK.request.pcm) == ASK
    assert [decode_reply(encode_reply(each)) for each in REPLIES] == REPLIES
    assert decode_beat(encode_beat(BEAT)) == BEAT


def test_audio_is_not_in_the_header() -> None:
    loud = Ask(LiveRequest("r", "s", LiveKind.FINAL, "oracle", b"\x7f" * 960_000), api="a")
    assert len(encode_ask(loud)) < 300


def decode(data: bytes) -> Ask:
    return decode_ask(data, b"\x00\x01")


CASES: dict[str, tuple[bytes, Callable[[bytes], object], object]] = {
    "ask": (encode_ask(ASK), decode, ASK),
    "reply": (encode_reply(REPLY), decode_reply, REPLY),
    "voices": (encode_reply(VOICES), decode_reply, VOICES),
    "beat": (encode_beat(BEAT), decode_beat, BEAT),
}


@pytest.mark.parametrize("case", CASES)
def test_members_of_a_newer_version_are_left_out(case: str) -> None:
    data, read, expected = CASES[case]
    newer = json.loads(data)
    for part in (newer, newer.get("request", {}), newer.get("answer", {})):
        part["of_a_newer_version"] = 1

    assert read(json.dumps(newer).encode()) == expected


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("data", [b"\xff", b"{}", b"[]", b'"text"', b'{"request": {"kind": 1}}'])
def test_anything_else_is_an_error_that_is_expected(case: str, data: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        CASES[case][1](data)
