"""``/ws/stt``: every message, field and error code."""

import asyncio
import re
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from api.live import watch
from api.live.checkpoints import Checkpoint, Checkpoints
from harness.live.audio import say, silence, texts
from harness.live.clients import live, of
from harness.live.hearers import IDLE, ToneHearer
from harness.servers.api_server import api
from shared.infra.settings import Settings

SENTENCE = silence(0.5) + say(1, 2, 3, 4) + silence(0.8)
CONFIG = {"lang_code": "en"}


def test_a_session_goes_as_the_protocol_says(client: httpx.Client) -> None:
    with live(client) as talker:
        started = talker.start(session_id="mine", config={"lang_code": "pt"})
        talker.stream(SENTENCE[:44_000])
        messages = talker.read_until("partial_transcript")
        talker.stream(SENTENCE[44_000:])
        talker.send({"type": "end_session"})
        rest, code = talker.read_all()
        messages += rest

    assert started.pop("resume_token")
    assert started == {"type": "session_started", "session_id": "mine", "acked_ms": 0.0}
    assert code == 1000
    assert {message["session_id"] for message in messages} == {"mine"}
    kinds = [message["type"] for message in messages]
    assert kinds[0] == "vad_event"
    assert "partial_transcript" in kinds
    assert kinds[-3:] == ["vad_event", "final_transcript", "session_ended"]
    begin, end = of("vad_event", messages)
    assert (begin["state"], end["state"]) == ("speech_start", "speech_end")
    assert begin["t_ms"] == pytest.approx(500, abs=40)
    assert end["t_ms"] == pytest.approx(1640, abs=40)
    partial = of("partial_transcript", messages)[-1]
    assert set(partial) == {
        *("type", "session_id", "segment_id", "text", "stable_text", "confidence", "is_final"),
        *("preflight", "timing"),
    }
    assert partial["is_final"] is False
    (final,) = of("final_transcript", messages)
    assert final["text"] == texts(1, 2, 3, 4)
    assert final["is_final"] is True
    assert final["segment_id"] == partial["segment_id"]
    assert 0.9 < final["confidence"] <= 1
    assert final["language"] == "pt"
    assert [word["word"] for word in final["words"]] == texts(1, 2, 3, 4).split()
    assert final["words"][0]["start"] == pytest.approx(0.5, abs=0.02)
    assert set(final["words"][0]) == {"word", "start", "end", "probability", "speaker"}
    assert final["audio_duration_ms"] == pytest.approx(300 + 1140 + 200, abs=100)
    assert set(final["timing"]) == {
        *("preprocess_ms", "queue_wait_ms", "inference_ms", "postprocess_ms", "server_total_ms")
    }
    parts = [value for name, value in final["timing"].items() if name != "server_total_ms"]
    assert final["timing"]["server_total_ms"] == pytest.approx(sum(parts), abs=0.3)
    assert messages[-1] == {
        "type": "session_ended",
        "session_id": "mine",
        "reason": "completed",
        "total_audio_ms": len(SENTENCE) / 32,
        "total_segments": 1,
    }


def test_a_session_without_an_id_and_a_config_gets_both(client: httpx.Client) -> None:
    with live(client) as talker:
        started = talker.start()

    assert re.fullmatch(r"[0-9a-f]{32}", started["session_id"])


def test_options_of_a_session_are_heeded(client: httpx.Client, hearer: ToneHearer) -> None:
    config = {
        "sample_rate": 16000,
        "vad_enabled": False,
        "vad_threshold": 0.3,
        "partial_results": False,
        "word_timestamps": False,
        "lang_code": "English",
        "model": "oracle",
    }
    with live(client) as talker:
        talker.start(config=config)
        talker.stream(say(1) + silence(1.5) + say(2))
        talker.send({"type": "flush"})
        (final,) = talker.read_until("final_transcript")

    assert final["text"] == texts(1, 2)
    assert final["words"] == []
    assert final["language"] == "en"
    assert [request.kind for request in hearer.requests] == ["final"]


def test_the_likely_final_is_told_in_the_pause_before_the_final(client: httpx.Client) -> None:
    with live(client) as talker:
        talker.start(config=CONFIG)
        talker.stream(silence(0.5) + say(1, 2, 3) + silence(0.3))
        message = talker.read_until("partial_transcript")[-1]
        while not message["preflight"]:
            message = talker.read_until("partial_transcript")[-1]
        talker.stream(silence(0.5))
        (*_, final) = talker.read_until("final_transcript")

    assert message["text"] == final["text"] == texts(1, 2, 3)


@pytest.mark.parametrize("rate", [8_000, 24_000, 44_100, 48_000])
def test_pcm_of_another_rate_is_heard_as_if_it_were_of_16_khz(
    client: httpx.Client, rate: int
) -> None:
    samples = np.frombuffer(SENTENCE, "<i2")
    at = np.arange(len(samples) * rate // 16_000) * 16_000 / rate
    pcm = np.interp(at, np.arange(len(samples)), samples).astype("<i2").tobytes()
    with live(client) as talker:
        talker.start(config={**CONFIG, "sample_rate": rate})
        talker.stream(pcm, frame_bytes=1_001)  # samples are split between messages
        talker.send({"type": "end_session"})
        messages, _ = talker.read_all()

    (final,) = of("final_transcript", messages)
    assert final["text"] == texts(1, 2, 3, 4)
    assert final["words"][0]["start"] == pytest.approx(0.5, abs=0.03)
    assert messages[-1]["total_audio_ms"] == pytest.approx(len(SENTENCE) / 32, abs=10)


def test_every_flush_is_answered_by_a_final(client: httpx.Client) -> None:
    with live(client) as talker:
        talker.start(config=CONFIG)
        talker.send({"type": "flush"})
        (empty,) = talker.read_until("final_transcript")
        talker.stream(silence(0.3) + say(5, 6))
        talker.send({"type": "flush"})
        spoken = talker.read_until("final_transcript")

    assert (empty["text"], empty["words"], empty["confidence"]) == ("", [], None)
    assert spoken[-1]["text"] == texts(5, 6)
    assert spoken[-1]["reason"] == "flush"


def test_the_end_of_a_session_right_after_a_flush_loses_nothing(client: httpx.Client) -> None:
    with live(client) as talker:
        talker.start(config=CONFIG)
        talker.stream(silence(0.3) + say(5, 6))
        talker.send({"type": "flush"})
        talker.send({"type": "end_session"})
        messages, _ = talker.read_all()

    assert [final["text"] for final in of("final_transcript", messages)] == [texts(5, 6)]
    assert messages[-1]["total_segments"] == 1


def test_a_session_that_is_cancelled_ends_without_further_text(
    client: httpx.Client, hearer: ToneHearer
) -> None:
    hearer.silent = True
    with live(client) as talker:
        talker.start(config=CONFIG)
        talker.stream(silence(0.3) + say(5, 6))
        talker.send({"type": "cancel"})
        messages, code = talker.read_all()

    assert [message["type"] for message in messages] == ["vad_event", "session_ended"]
    assert messages[-1]["reason"] == "cancelled"
    assert code == 1000
    assert set(hearer.cancelled) == {request.segment for request in hearer.requests}


def test_what_a_worker_could_not_hear_is_an_inference_error(
    client: httpx.Client, hearer: ToneHearer
) -> None:
    hearer.error = lambda request: "engine_failed"
    with live(client) as talker:
        talker.start(session_id="a", config=CONFIG)
        talker.stream(SENTENCE)
        messages = talker.read_until("final_transcript")
        hearer.error = lambda request: None
        talker.stream(SENTENCE)
        later = talker.read_until("final_transcript")

    (error,) = of("error", messages)
    assert error["code"] == "INFERENCE_ERROR"
    assert set(error) == {"type", "code", "message", "session_id"}
    assert messages[-1]["text"] == ""
    assert later[-1]["text"] == texts(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("load", "code"),
    [
        ({"workers": 0}, "QUEUE_CONGESTION"),
        ({"depth": 64}, "QUEUE_FULL"),
    ],
)
def test_a_session_that_nobody_has_time_for_is_refused(
    client: httpx.Client, hearer: ToneHearer, load: dict[str, float], code: str
) -> None:
    hearer.now = replace(IDLE, **load)
    with live(client) as talker:
        refusal = talker.start(session_id="mine", config={**CONFIG, "model": "oracle"})
        _, closed = talker.read_all()

    assert (refusal["type"], refusal["code"]) == ("error", code)
    assert refusal["session_id"] == "mine"
    assert closed == 1013


def test_a_second_session_is_refused_where_answers_take_too_long_but_the_first_is_not(
    client: httpx.Client, hearer: ToneHearer
) -> None:
    hearer.now = replace(IDLE, wait_ms=501.0)
    with live(client) as first, live(client) as second:
        taken = first.start(config=CONFIG)
        refusal = second.start(config=CONFIG)

    assert taken["type"] == "session_started"
    assert refusal["code"] == "QUEUE_CONGESTION"


def test_sessions_for_a_model_that_was_unloaded_begin_have_it_loaded_and_are_told_once(
    client: httpx.Client, hearer: ToneHearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.05)
    hearer.now = replace(IDLE, loaded=0, partial_ms=0.0, final_ms=0.0, wait_ms=0.0)
    with live(client) as first, live(client) as second:
        assert first.start(config=CONFIG)["type"] == "session_started"
        assert second.start(config=CONFIG)["type"] == "session_started"
        told = first.read_until("error")
        assert "being loaded" in told[-1]["message"]
        assert hearer.roused
        first.stream(SENTENCE)
        heard = first.read_until("final_transcript")

    assert told[-1]["code"] == "QUEUE_CONGESTION"
    assert of("error", heard) == []
    assert set(hearer.roused) == {"oracle"}


@pytest.fixture
def begun_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions whose checkpoints take half a second; their connections' clocks look meanwhile."""

    async def begin_slowly(*args: Any) -> Checkpoint | None:
        await asyncio.sleep(0.5)
        return await begin(*args)

    begin = Checkpoints.begin
    monkeypatch.setattr(Checkpoints, "begin", begin_slowly)
    monkeypatch.setattr(watch, "LOOK_S", 0.05)


@pytest.mark.usefixtures("begun_slowly")
def test_a_client_hears_of_nothing_before_its_session(
    client: httpx.Client, hearer: ToneHearer
) -> None:
    hearer.now = replace(IDLE, loaded=0)
    with live(client) as talker:
        assert talker.start(config=CONFIG)["type"] == "session_started"
        assert "being loaded" in talker.read_until("error")[-1]["message"]


@pytest.mark.usefixtures("begun_slowly")
def test_no_session_is_given_up_before_it_has_begun(servers: Settings, hearer: ToneHearer) -> None:
    settings = servers.model_copy(update={"live_idle_s": 0.1})
    with api(settings, hearer.make) as client, live(client) as talker:
        assert talker.start(config=CONFIG)["type"] == "session_started"
        assert talker.read()["reason"] == "timeout"


def test_a_model_that_no_worker_hears_live_is_refused(client: httpx.Client) -> None:
    with live(client) as talker:
        refusal = talker.start(config={"model": "whisper-tiny"})

    assert refusal["code"] == "QUEUE_CONGESTION"
    assert "whisper-tiny" in refusal["message"]


def test_partials_are_left_out_while_the_queue_is_full_and_the_client_is_told_once(
    client: httpx.Client, hearer: ToneHearer
) -> None:
    with live(client) as talker:
        talker.start(config=CONFIG)
        hearer.now = replace(IDLE, depth=64)
        talker.stream(silence(0.3) + say(*range(8)) + silence(0.8))
        messages = talker.read_until("final_transcript")

    assert [error["code"] for error in of("error", messages)] == ["QUEUE_FULL"]
    assert messages[-1]["text"] == texts(*range(8))


def test_status_tells_how_busy_live_audio_is(client: httpx.Client, hearer: ToneHearer) -> None:
    hearer.now = replace(IDLE, depth=2, partial_ms=145.5, final_ms=280.3)
    with live(client) as talker:
        talker.start(config=CONFIG)
        status = client.get("/health/status").json()

    assert status["accepting_requests"] is True
    assert status["model"]["model_size"] == "oracle"
    assert status["model"]["ready"] is True
    assert status["queue"] == {
        "depth": 2,
        "avg_partial_ms": 145.5,
        "avg_final_ms": 280.3,
        "estimated_server_total_ms": 425.8,
        "accepting_requests": True,
        "total_requests": 0,
        "rejected_requests": 0,
    }
    assert status["sessions"] == {"active": 1, "max": 100}
    assert status["capacity"] == {"estimated_max_concurrent": 3, "current_load_percent": 66.7}
    metrics = client.get("/metrics").text
    assert 'longhand_live_sessions_ended_total{reason="' in metrics
