"""Voices: remembered at a client's wish, recognized in later jobs, forgotten for good."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import numpy as np
import pytest
from sqlalchemy import text
from test_diarized_jobs import dialogue, diarize, diarizer, end, prepared, runtime, transcribe

from harness.engines.loud_voices import LoudVoices
from harness.jobs.transcripts import get_transcript
from harness.servers.api_server import api, assert_problem
from shared.infra.settings import Settings
from shared.speech.transcript.transcript import Speaker
from shared.store import voices
from worker.process.runtime import Runtime

__all__ = ["diarizer", "runtime"]
TALK_S = (0, 12, 24, 36)


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client


class Talks:
    """Jobs in which two people speak in turns."""

    def __init__(self, runtime: Runtime, diarizer: LoudVoices) -> None:
        self._runtime = runtime
        self._diarizer = diarizer

    def job(self, audio: np.ndarray | None = None, **speakers: Any) -> UUID:
        audio = dialogue(*TALK_S) if audio is None else audio
        job_id = prepared(self._runtime, audio, **speakers)
        diarize(self._runtime, self._diarizer, job_id)
        transcribe(self._runtime, job_id)
        end(self._runtime, job_id)
        return job_id

    def speakers(self, job_id: UUID) -> list[Speaker]:
        found = get_transcript(self._runtime.database, "default", job_id).speakers
        assert found is not None
        return list(found)


@pytest.fixture
def talks(runtime: Runtime, diarizer: LoudVoices) -> Talks:
    return Talks(runtime, diarizer)


def remember(client: httpx.Client, job_id: UUID, speaker: int, name: str) -> httpx.Response:
    return client.post(f"/jobs/{job_id}/voices", json={"speaker": speaker, "name": name})


def test_who_was_remembered_is_named_in_later_jobs_until_they_are_forgotten(
    client: httpx.Client, talks: Talks
) -> None:
    first = talks.job(identify=True)
    assert [each.name for each in talks.speakers(first)] == ["Speaker 0", "Speaker 1"]
    answer = remember(client, first, 1, "Anna")
    assert answer.status_code == 201, answer.text
    voice = answer.json()
    assert voice["name"] == "Anna"
    assert voice["model"] == "loud-voices"
    assert client.get("/voices").json() == {"voices": [voice]}

    later = talks.job(identify=True)
    nobody, anna = talks.speakers(later)
    assert nobody.recognized is None
    assert nobody.name == "Speaker 0"
    assert anna.name == "Anna"
    assert anna.recognized is not None
    assert str(anna.recognized.voice_id) == voice["id"]
    assert anna.recognized.similarity == pytest.approx(1, abs=1e-3)
    shown = client.get(f"/jobs/{later}/speakers").json()["speakers"]
    assert shown[1]["recognized"]["voice_id"] == voice["id"]
    assert "\nAnna: " in client.get(f"/jobs/{later}/transcript?format=txt").text
    assert [each.name for each in talks.speakers(talks.job())] == ["Speaker 0", "Speaker 1"]

    assert client.delete(f"/voices/{voice['id']}").status_code == 204
    assert client.get("/voices").json() == {"voices": []}
    assert_problem(client.delete(f"/voices/{voice['id']}"), 404, "voice_not_found")
    assert [each.name for each in talks.speakers(talks.job(identify=True))] == [
        "Speaker 0",
        "Speaker 1",
    ]
    assert talks.speakers(later)[1].name == "Anna"


def test_a_job_that_was_not_asked_keeps_nothing_of_its_voices(
    client: httpx.Client, talks: Talks, runtime: Runtime
) -> None:
    job_id = talks.job()
    assert_problem(remember(client, job_id, 0, "Anna"), 409, "voiceprints_not_kept")
    with runtime.database.connect() as connection:
        kept = connection.execute(text("SELECT voiceprints FROM transcripts")).scalars()
        assert set(kept) == {None}


def test_what_cannot_be_remembered_is_told(client: httpx.Client, talks: Talks) -> None:
    job_id = talks.job(identify=True)
    assert_problem(remember(client, job_id, 7, "Anna"), 404, "speaker_not_found")
    assert_problem(remember(client, uuid4(), 0, "Anna"), 404, "job_not_found")
    assert_problem(remember(client, job_id, 0, " \n"), 422, "invalid_request")
    merge = {"speakers": [{"id": 1, "merged_into": 0}]}
    assert client.patch(f"/jobs/{job_id}/speakers", json=merge).status_code == 200
    assert_problem(remember(client, job_id, 1, "Anna"), 404, "speaker_not_found")
    assert remember(client, job_id, 0, "Anna").status_code == 201
    short = talks.job(dialogue(0, 12)[: 16_000 * 13], identify=True)
    assert_problem(remember(client, short, 1, "Bo"), 409, "voice_too_short")


def test_there_are_no_more_than_a_limit(
    client: httpx.Client, talks: Talks, monkeypatch: pytest.MonkeyPatch, runtime: Runtime
) -> None:
    job_id = talks.job(identify=True)
    monkeypatch.setattr(voices, "MAX_VOICES", 0)
    with pytest.raises(voices.TooManyVoices, match="0 voices already"):
        voices.add_voice(runtime.database, "default", job_id, speaker=0, name="Anna")


def test_two_jobs_that_identify_do_not_share_a_transcript(talks: Talks, runtime: Runtime) -> None:
    job_id = talks.job(identify=True)
    with runtime.database.connect() as connection:
        fingerprint = connection.execute(
            text("SELECT fingerprint FROM jobs WHERE id = :id"), {"id": job_id}
        ).scalar_one()
    assert fingerprint is None
