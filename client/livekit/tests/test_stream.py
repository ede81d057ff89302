"""A stream's events, against a peer that speaks the protocol and can fail."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
from livekit import rtc
from livekit.agents import APIConnectionError, APIConnectOptions, APIStatusError
from livekit.agents.metrics import STTMetrics
from livekit.agents.stt import RecognizeStream, SpeechEvent, SpeechEventType
from livekit.agents.types import NOT_GIVEN
from livekit.plugins import longhand

from harness.peers.stt_peer import RATE, spoken, stt_peer

Make = Callable[..., longhand.STT]
AT_ONCE = APIConnectOptions(max_retry=3, retry_interval=0.01, timeout=5.0)

START, INTERIM, PREFLIGHT, FINAL, END = (
    SpeechEventType.START_OF_SPEECH,
    SpeechEventType.INTERIM_TRANSCRIPT,
    SpeechEventType.PREFLIGHT_TRANSCRIPT,
    SpeechEventType.FINAL_TRANSCRIPT,
    SpeechEventType.END_OF_SPEECH,
)


def frames(pcm: bytes, *, frame_ms: int = 10, channels: int = 1) -> list[rtc.AudioFrame]:
    step = RATE * frame_ms // 1000 * 2
    return [
        rtc.AudioFrame(
            pcm[at : at + step], RATE, channels, len(pcm[at : at + step]) // 2 // channels
        )
        for at in range(0, len(pcm), step)
    ]


def push(stream: RecognizeStream, pcm: bytes) -> None:
    for frame in frames(pcm):
        stream.push_frame(frame)


async def events_of(stream: RecognizeStream) -> list[SpeechEvent]:
    """Return all events up to the stream's end, without those of usage."""
    async with stream:
        return [e async for e in stream if e.type is not SpeechEventType.RECOGNITION_USAGE]


async def until(events: AsyncIterator[SpeechEvent], kind: SpeechEventType) -> list[SpeechEvent]:
    seen = []
    async for event in events:
        seen.append(event)
        if event.type is kind:
            break
    return seen


def finals(events: list[SpeechEvent]) -> list[str]:
    return [event.alternatives[0].text for event in events if event.type is FINAL]


def kinds(events: list[SpeechEvent]) -> list[SpeechEventType]:
    """The types in order; interims in a row as one."""
    found: list[SpeechEventType] = []
    for event in events:
        if event.type is not INTERIM or found[-1:] != [INTERIM]:
            found.append(event.type)
    return found


async def test_each_turn_is_a_start_interims_a_final_and_an_end(make_stt: Make) -> None:
    with stt_peer() as peer:
        stream = make_stt(peer.url).stream()
        push(stream, spoken(1, 2) + spoken(3))
        stream.end_input()
        events = await events_of(stream)
    assert kinds(events) == [*[START, INTERIM, FINAL, END] * 2, FINAL]
    assert finals(events) == ["1 2", "3", ""]  # the last one answers the flush of the end


async def test_the_likely_final_comes_before_the_final_as_a_preflight(make_stt: Make) -> None:
    with stt_peer(preflight=True) as peer:
        stream = make_stt(peer.url).stream()
        push(stream, spoken(1, 2))
        stream.end_input()
        events = await events_of(stream)
    assert kinds(events) == [START, INTERIM, PREFLIGHT, FINAL, END, FINAL]
    assert [e.alternatives[0].text for e in events if e.type is PREFLIGHT] == ["1 2"]


async def test_what_is_still_being_said_at_the_end_has_a_final_and_an_end(make_stt: Make) -> None:
    with stt_peer() as peer:
        stream = make_stt(peer.url).stream()
        push(stream, spoken(1, 2, silence_ms=0))
        stream.end_input()
        events = await events_of(stream)
    assert kinds(events) == [START, INTERIM, FINAL, END]
    assert finals(events) == ["1 2"]


async def test_a_turn_goes_on_when_speech_begins_before_the_final_is_there(make_stt: Make) -> None:
    with stt_peer(hold_finals=True) as peer:
        stream = make_stt(peer.url).stream()
        push(stream, spoken(1) + spoken(2, silence_ms=0))
        stream.end_input()
        events = await events_of(stream)
    assert kinds(events) == [START, INTERIM, FINAL, INTERIM, FINAL, END]
    assert finals(events) == ["1", "2"]


async def test_a_flush_is_answered_by_a_final_also_where_nothing_was_said(make_stt: Make) -> None:
    with stt_peer() as peer:
        stream = make_stt(peer.url).stream()
        push(stream, spoken(silence_ms=100))
        stream.flush()
        events = await until(stream, FINAL)
        await stream.aclose()
    assert finals(events) == [""]


async def test_words_have_the_streams_times_and_the_offset_that_an_agent_sets(
    make_stt: Make,
) -> None:
    with stt_peer() as peer:
        stream = make_stt(peer.url).stream()
        stream.start_time_offset = 100.0
        push(stream, spoken(silence_ms=500) + spoken(7))
        stream.end_input()
        events = await events_of(stream)
    (speech,) = (e.alternatives[0] for e in events if e.type is FINAL and e.alternatives[0].text)
    (word,) = speech.words or ()
    assert (str(word), word.confidence) == ("7", 0.9)
    assert word.start_time_offset == pytest.approx(100.0)
    assert word.start_time == pytest.approx(100.5)
    assert word.end_time == pytest.approx(100.6)
    assert (speech.start_time, speech.end_time) == (word.start_time, word.end_time)


async def test_speech_has_wall_clock_times(make_stt: Make) -> None:
    with stt_peer() as peer:
        stream = make_stt(peer.url).stream()
        before = time.time()
        push(stream, spoken(1))
        stream.end_input()
        events = {event.type: event for event in await events_of(stream)}
    started, ended = events[START].speech_start_time, events[END].speech_end_time
    assert started is not None
    assert ended is not None
    # 0.64 s of audio came in at once, as if its last sample had just been spoken.
    assert before - 0.7 <= started < ended <= time.time()


@pytest.mark.parametrize("cut_s", [0.05, 0.2, 0.45, 0.7, 1.2])
async def test_no_word_is_lost_or_doubled_by_a_lost_connection(
    make_stt: Make, cut_s: float
) -> None:
    with stt_peer(cut_at_s=[cut_s]) as peer:
        stream = make_stt(peer.url).stream(conn_options=AT_ONCE)
        for frame in frames(spoken(1, 2) + spoken(3, 4)):
            stream.push_frame(frame)
            await asyncio.sleep(0.001)
        stream.end_input()
        events = await events_of(stream)
    assert len(peer.started) == 2
    assert [text for text in finals(events) if text] == ["1 2", "3 4"]
    boundaries = [kind for kind in kinds(events) if kind in (START, END)]
    assert boundaries == [START, END] * (len(boundaries) // 2)
    times = [w.start_time for e in events if e.type is FINAL for w in e.alternatives[0].words or ()]
    assert times == pytest.approx([0.0, 0.14, 0.78, 0.92], abs=1e-3)


async def test_a_flush_that_was_not_answered_is_sent_again(make_stt: Make) -> None:
    with stt_peer(cut_at_s=[0.3]) as peer:
        stream = make_stt(peer.url).stream(conn_options=AT_ONCE)
        push(stream, spoken(5, 6, silence_ms=200))
        stream.flush()
        events = await until(stream, FINAL)
        await stream.aclose()
    assert finals(events) == ["5 6"]
    assert len(peer.started) == 2


async def test_each_connection_has_a_session_id_of_its_own(make_stt: Make) -> None:
    with stt_peer(refuse=["SESSION_EXISTS_ELSEWHERE"]) as peer:
        stream = make_stt(peer.url).stream(conn_options=AT_ONCE)
        stream.end_input()
        await events_of(stream)
    ids = [start["session_id"] for start in peer.started]
    assert len(ids) == len(set(ids)) == 2


@pytest.mark.parametrize("code", ["MAX_SESSIONS_REACHED", "QUEUE_CONGESTION", "INTERNAL_ERROR"])
async def test_a_refusal_that_may_pass_is_tried_again(make_stt: Make, code: str) -> None:
    with stt_peer(refuse=[code]) as peer:
        stream = make_stt(peer.url).stream(conn_options=AT_ONCE)
        push(stream, spoken(1))
        stream.end_input()
        assert finals(await events_of(stream)) == ["1", ""]


async def test_a_message_that_the_server_finds_invalid_is_not_tried_again(make_stt: Make) -> None:
    with stt_peer(refuse=["INVALID_MESSAGE"]) as peer:
        stream = make_stt(peer.url).stream(conn_options=AT_ONCE)
        with pytest.raises(APIStatusError) as raised:
            await events_of(stream)
    assert (raised.value.status_code, raised.value.retryable) == (400, False)
    assert len(peer.started) == 1


async def test_a_server_that_is_not_there_is_told_after_the_retries(make_stt: Make) -> None:
    with stt_peer() as peer:
        url = peer.url
    stream = make_stt(url).stream(conn_options=AT_ONCE)
    with pytest.raises(APIConnectionError, match="after 3 attempts"):
        await events_of(stream)


async def test_an_address_of_something_else_is_not_tried_again(make_stt: Make) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        stream = make_stt(f"ws://127.0.0.1:{port}/ws/stt").stream(conn_options=AT_ONCE)
        with pytest.raises(APIStatusError) as raised:
            await events_of(stream)
    assert (raised.value.status_code, raised.value.retryable) == (404, False)


async def test_a_segment_that_fails_is_told_and_the_stream_goes_on(make_stt: Make) -> None:
    with stt_peer(fail=["INFERENCE_ERROR"]) as peer:
        plugin = make_stt(peer.url)
        errors: list[object] = []
        plugin.on("error", errors.append)
        stream = plugin.stream()
        push(stream, spoken(1) + spoken(2))
        stream.end_input()
        events = await events_of(stream)
    assert finals(events) == ["", "2", ""]
    assert kinds(events) == [*[START, INTERIM, FINAL, END] * 2, FINAL]
    assert [error.recoverable for error in errors] == [True]


async def test_lateness_is_no_error(make_stt: Make) -> None:
    with stt_peer(fail=["QUEUE_FULL"]) as peer:
        plugin = make_stt(peer.url)
        errors: list[object] = []
        plugin.on("error", errors.append)
        stream = plugin.stream(conn_options=AT_ONCE)
        push(stream, spoken(1) + spoken(2))
        stream.end_input()
        assert finals(await events_of(stream)) == ["", "2", ""]
    assert errors == []
    assert len(peer.started) == 1


async def test_audio_counts_once_as_usage(make_stt: Make) -> None:
    with stt_peer(cut_at_s=[0.5]) as peer:
        plugin = make_stt(peer.url)
        used: list[STTMetrics] = []
        plugin.on("metrics_collected", used.append)
        stream = plugin.stream(conn_options=AT_ONCE)
        push(stream, spoken(silence_ms=12_340))
        stream.end_input()
        await events_of(stream)
    told = [metrics.audio_duration for metrics in used if metrics.audio_duration]
    assert len(told) == 3
    assert sum(told) == pytest.approx(12.34)


async def test_channels_are_mixed_down(make_stt: Make) -> None:
    mono = spoken(4, silence_ms=400)
    stereo = b"".join(mono[at : at + 2] * 2 for at in range(0, len(mono), 2))
    with stt_peer() as peer:
        stream = make_stt(peer.url).stream()
        for frame in frames(stereo, channels=2):
            stream.push_frame(frame)
        stream.end_input()
        assert finals(await events_of(stream)) == ["4", ""]


async def test_a_stream_asks_for_what_the_plugin_was_given(make_stt: Make) -> None:
    with stt_peer() as peer:
        plugin = make_stt(peer.url, language="pt", model="m", vad_threshold=0.3)
        for language in (NOT_GIVEN, "de"):
            stream = plugin.stream(language=language)
            stream.end_input()
            await events_of(stream)
    first, second = (start["config"] for start in peer.started)
    assert first == {
        "lang_code": "pt",
        "model": "m",
        "sample_rate": 16_000,
        "vad_enabled": True,
        "vad_threshold": 0.3,
        "partial_results": True,
        "word_timestamps": True,
    }
    assert second == {**first, "lang_code": "de"}


async def test_the_earlier_plugins_arguments_work(make_stt: Make) -> None:
    with stt_peer() as peer:
        plugin = longhand.WhisperSTT(service_url=peer.url, language="pt")
        stream = plugin.stream()
        push(stream, spoken(1))
        stream.end_input()
        assert finals(await events_of(stream)) == ["1", ""]
    assert (plugin.provider, plugin.model) == ("Longhand", "auto")


def test_an_address_that_is_not_a_websockets_is_refused() -> None:
    with pytest.raises(ValueError, match="not the address of a WebSocket"):
        longhand.STT(url="http://127.0.0.1:8000")
