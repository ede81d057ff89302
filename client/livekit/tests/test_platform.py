"""The plugin against the whole platform and real speech, as LiveKit's own tests drive a plugin.

Those push frames of 10 ms at twice their pace, end the input, and expect turns whose events
alternate, English, and a word error rate of at most 25 %, within a minute.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from livekit import rtc
from livekit.agents import APIConnectOptions
from livekit.agents.stt import RecognizeStream, SpeechEvent, SpeechEventType
from livekit.plugins import longhand
from speech import FRAME_S, LIMIT_S, MOST_WER, error_rate

Make = Callable[..., longhand.STT]


async def heard(stream: RecognizeStream, frames: list[rtc.AudioFrame]) -> list[SpeechEvent]:
    """Push the frames at twice their pace, end the input, and return all events."""

    async def push() -> None:
        for frame in frames:
            stream.push_frame(frame)
            await asyncio.sleep(FRAME_S / 2)
        stream.end_input()

    async with asyncio.timeout(LIMIT_S), stream:
        pushing = asyncio.create_task(push())
        events = [event async for event in stream]
        await pushing
    return events


def text_of(events: list[SpeechEvent]) -> str:
    finals = [e for e in events if e.type is SpeechEventType.FINAL_TRANSCRIPT]
    return " ".join(final.alternatives[0].text for final in finals)


def assert_turns_alternate(events: list[SpeechEvent]) -> None:
    speaking = False
    for event in events:
        if event.type is SpeechEventType.START_OF_SPEECH:
            assert not speaking
            speaking = True
        elif event.type is SpeechEventType.END_OF_SPEECH:
            assert speaking
            speaking = False
        elif event.type is SpeechEventType.FINAL_TRANSCRIPT and event.alternatives[0].text:
            assert speaking, "a text outside of a turn"
    assert not speaking


async def test_streamed_speech_becomes_turns_with_the_right_words(
    make_stt: Make, url: str, frames: list[rtc.AudioFrame]
) -> None:
    events = await heard(make_stt(url).stream(), frames)
    assert_turns_alternate(events)
    assert error_rate(text_of(events)) <= MOST_WER
    finals = [
        event.alternatives[0]
        for event in events
        if event.type is SpeechEventType.FINAL_TRANSCRIPT and event.alternatives[0].text
    ]
    assert {final.language for final in finals} == {"en"}
    times = [word.start_time for final in finals for word in final.words or ()]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] < len(frames) * FRAME_S


async def test_a_recording_is_recognized_with_the_right_words(
    make_stt: Make, url: str, frames: list[rtc.AudioFrame]
) -> None:
    event = await make_stt(url).recognize(frames)
    assert event.type is SpeechEventType.FINAL_TRANSCRIPT
    (speech,) = event.alternatives
    assert error_rate(speech.text) <= MOST_WER
    assert speech.language == "en"
    assert speech.words
    assert 0 <= speech.start_time < speech.end_time < len(frames) * FRAME_S


@asynccontextmanager
async def cut_off(url: str, after_bytes: int) -> AsyncIterator[str]:
    """Yield the address of a relay to the server that breaks its first connection."""
    parts = urlsplit(url)
    left = [after_bytes]

    async def pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: list[int]
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(4096):
                if limit:
                    limit[0] -= len(data)
                    if limit[0] < 0:
                        limit.clear()
                        break
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(parts.hostname, parts.port)
        there, back = pump(reader, far_writer, left), pump(far_reader, writer, [])
        await asyncio.gather(there, back)

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}/ws/stt"
    assert not left, "the connection was never broken"


async def test_a_lost_connection_costs_no_words(
    make_stt: Make, url: str, frames: list[rtc.AudioFrame]
) -> None:
    async with cut_off(url, after_bytes=32_000 * 5) as broken:
        retries = APIConnectOptions(max_retry=3, retry_interval=0.1, timeout=10.0)
        events = await heard(make_stt(broken).stream(conn_options=retries), frames)
    assert_turns_alternate(events)
    assert error_rate(text_of(events)) <= MOST_WER
