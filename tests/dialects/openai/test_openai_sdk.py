"""OpenAI's own SDK against a running platform: only the base URL and the key are changed."""

from io import BytesIO
from typing import Any

import pytest
from clients import Work
from openai import OpenAI

WORK = Work(tuple(range(3000, 3012)))


@pytest.fixture(scope="module")
def client(platform: Any) -> OpenAI:
    return OpenAI(
        base_url=f"{platform.url}/v1", api_key=platform.key, _strict_response_validation=True
    )


def test_the_quick_start_prints_the_text(client: OpenAI) -> None:
    audio_file = BytesIO(WORK.file())
    audio_file.name = "speech.wav"
    transcription = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=audio_file)
    assert transcription.text == WORK.recording.text
