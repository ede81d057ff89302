"""LiveKit's own plugin for OpenAI, a foreign client of the dialect: another base URL and key alone.

It is a client of both halves: it sends recordings to ``/v1/audio/transcriptions``, and with
``use_realtime`` it opens sessions at ``/v1/realtime`` by itself, without OpenAI's SDK.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from livekit import rtc
from livekit.agents import APIStatusError, utils
from livekit.agents.stt import SpeechEvent, SpeechEventType
from livekit.plugins import openai
from speech import FRAME_S, LIMIT_S, MOST_WER, RATE, error_rate

START, END = SpeechEventType.START_OF_SPEECH, SpeechEventType.END_OF_SPEECH
FINAL = SpeechEventType.FINAL_TRANSCRIPT


@pytest_asyncio.fixture(autouse=True)
async def job() -> AsyncIterator[None]:
    """An HTTP session, as a job of LiveKit's has one."""
    async with utils.http_context.open():
        yield


def plugin(platform: str, **options: object) -> openai.STT:
    return openai.STT(base_url=f"{platform}/v1", api_key="lh_live_any", **options)


@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-mini-transcribe"])
async def test_a_recording_is_recognized_with_the_right_words(
    platform: str, frames: list[rtc.AudioFrame], model: str
) -> None:
    event = await plugin(platform, model=model).recognize(frames)
    (speech,) = event.alternatives
    assert event.type is FINAL
    assert error_rate(speech.text) <= MOST_WER
    assert speech.language == "en"


async def test_what_is_refused_is_an_error_of_the_plugins(
    platform: str, frames: list[rtc.AudioFrame]
) -> None:
    with pytest.raises(APIStatusError, match="no-such") as refused:
        await plugin(platform, model="no-such").recognize(frames)
    assert refused.value.status_code == 404


async def test_streamed_speech_becomes_turns_with_the_right_words(
    platform: str, frames: list[rtc.AudioFrame]
) -> None:
    stt = plugin(platform, use_realtime=True)
    silence = rtc.AudioFrame(bytes(RATE * 2), RATE, 1, RATE)
    events: list[SpeechEvent] = []
    async with asyncio.timeout(LIMIT_S), stt.stream() as stream:

        async def push() -> None:
            for frame in frames:
                stream.push_frame(frame)
                await asyncio.sleep(FRAME_S / 2)
            stream.push_frame(silence)

        pushing = asyncio.create_task(push())
        # The plugin's stream goes on after its input has ended, until it is closed.
        while error_rate(text_of(events)) > MOST_WER or not is_between_turns(events):
            events.append(await anext(stream))
        await pushing
    await stt.aclose()
    turns = [event.type for event in events if event.type in (START, END)]
    assert turns == [START, END] * (len(turns) // 2)
    finals = [event.alternatives[0] for event in events if event.type is FINAL]
    assert {final.language for final in finals} == {"en"}


def text_of(events: list[SpeechEvent]) -> str:
    return " ".join(event.alternatives[0].text for event in events if event.type is FINAL)


def is_between_turns(events: list[SpeechEvent]) -> bool:
    """Return whether every turn that has begun has ended, with its text."""
    kinds = [event.type for event in events]
    return kinds.count(START) == kinds.count(END) <= kinds.count(FINAL)
