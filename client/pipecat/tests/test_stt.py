"""The service in a pipeline, against a peer that speaks the protocol and can fail."""

import time
from collections.abc import Sequence

import pytest
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    STTUpdateSettingsFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.worker import PipelineParams
from pipecat.tests.utils import SleepFrame, run_test
from pipecat.transcriptions.language import Language
from pipecat_longhand import LonghandSTTService

from harness.peers.stt_peer import RATE, spoken, stt_peer

Settings = LonghandSTTService.Settings


def audio(pcm: bytes) -> list[Frame]:
    step = RATE // 50 * 2
    return [InputAudioRawFrame(pcm[at : at + step], RATE, 1) for at in range(0, len(pcm), step)]


async def run(
    service: LonghandSTTService, frames: Sequence[Frame]
) -> tuple[list[Frame], list[Frame]]:
    """Return the transcription frames that went down, and the errors that went up."""
    params = PipelineParams(audio_in_sample_rate=RATE)
    down, up = await run_test(
        service, frames_to_send=frames, pipeline_params=params, start_timeout=10.0
    )
    kinds = (InterimTranscriptionFrame, TranscriptionFrame)
    return (
        [frame for frame in down if isinstance(frame, kinds)],
        [frame for frame in up if isinstance(frame, ErrorFrame)],
    )


def finals(frames: Sequence[Frame]) -> list[str]:
    return [frame.text for frame in frames if isinstance(frame, TranscriptionFrame)]


async def test_utterances_become_transcriptions_also_the_one_at_the_pipelines_end() -> None:
    with stt_peer() as peer:
        service = LonghandSTTService(url=peer.url, settings=Settings(language=Language.EN_US))
        down, errors = await run(service, audio(spoken(1, 2) + spoken(3, silence_ms=0)))
    assert finals(down) == ["1 2", "3"]
    assert [frame.text for frame in down[:2]] == ["1", "1 2"]
    assert {frame.language for frame in down} == {Language.EN_US}
    assert errors == []
    assert peer.started[0]["config"] == {"lang_code": "en-US", "sample_rate": RATE}
    assert peer.controls == ["flush", "end_session"]


async def test_the_end_of_speech_asks_for_the_final_which_is_marked() -> None:
    with stt_peer() as peer:
        frames = [
            VADUserStartedSpeakingFrame(),
            *audio(spoken(4, silence_ms=40)),
            SleepFrame(0.1),  # system frames overtake audio
            VADUserStoppedSpeakingFrame(stop_secs=0.2, timestamp=time.time()),
            SleepFrame(0.5),
        ]
        down, _ = await run(LonghandSTTService(url=peer.url), frames)
    (final,) = (frame for frame in down if isinstance(frame, TranscriptionFrame))
    assert (final.text, final.finalized) == ("4", True)
    assert peer.controls == ["flush", "flush", "end_session"]


async def test_audio_of_another_rate_is_resampled() -> None:
    with stt_peer() as peer:
        frames = [InputAudioRawFrame(bytes(960), 24_000, 1)] * 100  # 2 s
        service = LonghandSTTService(url=peer.url, sample_rate=24_000)
        await run(service, frames)
    assert peer.heard_s == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("cut_at_s", [0.3, 0.83], ids=["before a final", "after a final"])
@pytest.mark.parametrize("resumes", [True, False], ids=["goes on", "is forgotten"])
async def test_no_word_is_lost_or_doubled_when_the_connection_is_lost(
    cut_at_s: float, resumes: bool
) -> None:
    with stt_peer(cut_at_s=[cut_at_s], resumes=resumes) as peer:
        service = LonghandSTTService(url=peer.url, reconnect_backoff_min_wait=0.01)
        down, errors = await run(service, audio(spoken(1, 2) + spoken(3)))
    assert finals(down) == ["1 2", "3"]
    assert errors == []
    again = peer.started[1]
    assert again.get("resume_token") == (peer.started[0]["session_id"] if resumes else None)


async def test_a_session_that_the_server_has_forgotten_is_followed_by_another() -> None:
    with stt_peer(cut_at_s=[0.3], resumes=True, refuse=["", "SESSION_NOT_FOUND"]) as peer:
        service = LonghandSTTService(url=peer.url, reconnect_backoff_min_wait=0.01)
        down, _ = await run(service, audio(spoken(1, 2) + spoken(3)))
    assert finals(down) == ["1 2", "3"]
    assert [start.get("resume_token") is not None for start in peer.started][:3] == [
        False,
        True,
        False,
    ]


async def test_another_language_is_another_session() -> None:
    with stt_peer() as peer:
        delta = Settings(language=Language.DE)
        frames = [STTUpdateSettingsFrame(delta=delta), SleepFrame(0.3), *audio(spoken(5))]
        down, _ = await run(LonghandSTTService(url=peer.url), frames)
    assert finals(down) == ["5"]
    assert [start["config"].get("lang_code") for start in peer.started] == [None, "de"]


async def test_an_error_of_the_session_goes_up() -> None:
    with stt_peer(fail=["INFERENCE_ERROR"]) as peer:
        service = LonghandSTTService(url=peer.url)
        down, errors = await run(service, audio(spoken(1) + spoken(2)))
    assert finals(down) == ["2"]
    assert [error.error for error in errors] == ["no: INFERENCE_ERROR (INFERENCE_ERROR)"]
