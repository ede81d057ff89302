"""Whose voices are in live utterances: the real networks, asked through Redis."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr
from test_diarization import piece

from api.live.transcriber import Transcriber
from harness.engines.real_models import diarization_networks
from harness.live.sender import LiveSender
from harness.programs.workers import fleet, wait_until
from harness.servers.redis_server import RedisServer
from shared.infra.settings import Settings
from shared.models import weight_files
from shared.models.weights import Weights
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.live.requests import LiveAnswer, LiveKind, LiveRequest
from shared.speech.speakers.online import OnlineSpeakers
from shared.speech.speakers.voices import Voice
from worker.diarization.campplus_seg3 import CampplusSeg3
from worker.diarization.voices import HearsVoices
from worker.live.voices import VoiceTaker

MODEL = "campplus-seg3"
RMS, SLT = "meeting.mp3", "hello.wav"


@pytest.fixture(scope="module")
def diarizer() -> CampplusSeg3:
    return CampplusSeg3(Weights(diarization_networks(), "sha256:not-read"))


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    server = RedisServer(tmp_path)
    yield settings.model_copy(update={"broker_url": SecretStr(server.url)})
    server.kill()


def request(number: int, audio: np.ndarray) -> LiveRequest:
    pcm = np.round(audio * 32767).astype("<i2").tobytes()
    return LiveRequest(f"r{number}", f"s{number}", LiveKind.SPEAKER, MODEL, pcm)


def asked(own: Settings, hears: HearsVoices, *requests: LiveRequest) -> list[LiveAnswer]:
    """Ask a worker, one request after another."""

    async def ask() -> list[LiveAnswer]:
        sender = Transcriber(own)
        await sender.start()
        try:
            while not sender.load(MODEL).workers:
                await asyncio.sleep(0.02)
            return [await sender.hear(each) for each in requests]
        finally:
            await sender.close()

    taker = VoiceTaker(own, "diarize@test", MODEL, hears)
    try:
        return asyncio.run(asyncio.wait_for(ask(), 100))
    finally:
        taker.close()


def test_two_voices_are_told_apart_and_known_again(own: Settings, diarizer: CampplusSeg3) -> None:
    rms, slt = piece(RMS), piece(SLT)
    half = len(rms) // 2
    both = np.concatenate([slt, np.zeros(SAMPLE_RATE // 4, np.float32), rms])
    audio = rms[:half], slt, rms[half:], slt[: SAMPLE_RATE // 2], both

    answers = asked(own, diarizer, *(request(n, each) for n, each in enumerate(audio)))

    assert [answer.error for answer in answers] == [None] * 5
    assert {answer.worker for answer in answers} == {"diarize@test"}
    speakers = OnlineSpeakers()
    told = [(voices, speakers.labels(voices)) for voices in (a.voices or () for a in answers)]
    labels = [set(found) for _, found in told]
    assert labels[:3] == [{0}, {1}, {0}]
    assert labels[3] <= {None}
    voices, found = told[4]
    ends = {
        label: max(end for _, end in voice.turns)
        for voice, label in zip(voices, found, strict=True)
    }
    assert set(found) - {None} == {0, 1}
    assert ends[1] < len(slt) / SAMPLE_RATE + 0.5 < ends[0]


def test_a_diarization_worker_hears_live_voices_beside_its_steps(
    own: Settings, tmp_path: Path
) -> None:
    folder = diarization_networks()
    entry = f"""
[models.own-voices]
description = "The catalogue's diarizer, in a folder."
kind = "diarization"
engine = "campplus-seg3"
source = "file:{folder}"
revision = "{weight_files.digest(folder, weight_files.present(MODEL, folder))}"
size_bytes = 0
"""
    catalogue = tmp_path / "models.toml"
    catalogue.write_text(own.catalogue.read_text(encoding="utf-8") + entry, encoding="utf-8")
    with fleet(own.model_copy(update={"catalogue": catalogue}), tmp_path) as workers:
        workers.start("diarize", "--model", "own-voices")
        sending = LiveSender(own)
        try:
            wait_until(lambda: sending.transcriber.load("own-voices").workers)
            asked = replace(request(1, piece(RMS)), model="own-voices")
            answer = sending.hear(asked)[0].result(60)
        finally:
            sending.close()

    assert (answer.error, OnlineSpeakers().labels(answer.voices or ())) == (None, [0])
    assert (answer.worker or "").startswith("diarize-own-voices@")


class Failing:
    """Hears nothing the first time."""

    n_calls = 0

    def voices(self, audio: np.ndarray) -> tuple[Voice, ...]:
        self.n_calls += 1
        if self.n_calls == 1:
            raise RuntimeError("a bug")
        return (Voice((1.0,), len(audio) / SAMPLE_RATE, ((0.0, 1.0),)),)


def test_a_bug_is_an_answer_and_the_next_request_is_heard(own: Settings) -> None:
    second = np.zeros(SAMPLE_RATE, np.float32)

    failed, heard = asked(own, Failing(), *(request(n, second) for n in range(2)))

    assert (failed.error, failed.voices) == ("internal_error", None)
    assert replace(heard, queue_ms=0, inference_ms=0) == LiveAnswer(
        "r1",
        None,
        batch_size=1,
        worker="diarize@test",
        voices=(Voice((1.0,), 1.0, ((0.0, 1.0),)),),
    )


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.3, 12.0])
def test_silence_has_no_voices(diarizer: CampplusSeg3, seconds: float) -> None:
    assert diarizer.voices(np.zeros(round(seconds * SAMPLE_RATE), np.float32)) == ()
