"""Speakers as other services name them."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from openai.types.audio import TranscriptionDiarized

from api.dialects.assemblyai.body import read_body
from api.dialects.openai.answers import answer
from api.dialects.openai.form import AudioForm, Wish
from api.dialects.openai.tables import TRANSCRIPTION, TRANSLATION
from api.intake.multipart import Field
from shared.infra.errors import InvalidParameter, UnsupportedParameter
from shared.infra.outbound import Outbound
from shared.models.options import AskedSpeakers
from shared.speech.dialects.words import speaker_letter
from shared.speech.transcript.transcript import Segment, Speaker, TranscriptHeader
from shared.store.transcripts import StoredTranscript


def test_speakers_are_letters_and_go_on_after_z() -> None:
    assert [speaker_letter(n) for n in (0, 25, 26, 49, None)] == ["A", "Z", "A1", "X1", None]


def test_diarized_json_is_what_the_sdk_reads() -> None:
    header = TranscriptHeader(
        language="en",
        duration_s=3.0,
        speech_s=3.0,
        skipped_s=0.0,
        speakers=[Speaker(id=n, name=f"Speaker {n}", speech_s=1.0) for n in range(2)],
    )
    segments = [
        Segment(
            id=n,
            start=n,
            end=n + 1,
            text=f"word{n}.",
            separator=" " * (n > 0),
            speaker=who,
            words=[],
        )
        for n, who in enumerate((0, 1, None))
    ]
    stored = StoredTranscript(uuid4(), header, segments, segments)

    found = TranscriptionDiarized.model_validate(body_of(answer(stored, _DIARIZED, "transcribe")))

    assert found.text == "word0. word1. word2."
    assert [(each.id, each.speaker) for each in found.segments] == [
        ("seg_0", "A"),
        ("seg_1", "B"),
        ("seg_2", "unknown"),
    ]
    assert found.segments[1].text == " word1."


_DIARIZED = Wish("diarized_json")


def body_of(response: Any) -> Any:
    async def read() -> str:
        parts = [part async for part in response.body_iterator]
        return "".join(part if isinstance(part, str) else part.decode() for part in parts)

    return json.loads(asyncio.run(read()))


def test_diarized_json_asks_for_speakers_and_is_not_for_translations() -> None:
    form = AudioForm(TRANSCRIPTION, "transcribe", lambda _: "oracle")
    form.add(Field("response_format", "diarized_json"))
    assert form.asked().speakers is True
    form = AudioForm(TRANSLATION, "translate", lambda _: "oracle")
    form.add(Field("response_format", "diarized_json"))
    with pytest.raises(UnsupportedParameter, match="for transcriptions"):
        form.asked()


@pytest.mark.parametrize(
    ("asked", "speakers"),
    [
        ({}, False),
        ({"speaker_labels": True}, True),
        ({"speaker_labels": True, "speakers_expected": 3}, AskedSpeakers(count=3)),
        (
            {"speaker_labels": True, "speaker_options": {"max_speakers_expected": 4}},
            AskedSpeakers(max=4),
        ),
    ],
)
def test_speaker_labels_ask_for_speakers(asked: dict[str, Any], speakers: object) -> None:
    body = json.dumps({"audio_url": "https://a.example/x", **asked}).encode()
    assert read_body(body, lambda _: "oracle", Outbound()).file.speakers == speakers


@pytest.mark.parametrize(
    "asked",
    [
        {"speakers_expected": 2},
        {"speaker_labels": True, "speakers_expected": 1000},
        {
            "speaker_labels": True,
            "speakers_expected": 2,
            "speaker_options": {"min_speakers_expected": 1},
        },
        {"speaker_labels": True, "speaker_options": {"max": 2}},
    ],
)
def test_labels_that_mean_nothing_are_refused(asked: dict[str, Any]) -> None:
    body = json.dumps({"audio_url": "https://a.example/x", **asked}).encode()
    with pytest.raises(InvalidParameter):
        read_body(body, lambda _: "oracle", Outbound())
