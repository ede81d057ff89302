"""Speakers over the API: asked for, named, merged, in every format."""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine

from harness.jobs.job_store import TRANSCRIPT, claim, finish, prepare, transcribe
from harness.jobs.transcripts import docx_paragraphs
from harness.jobs.word_streams import transcript_of
from harness.servers.api_server import api, assert_problem
from shared.infra.settings import Settings
from shared.speech.transcript.transcript import Speaker, Word
from shared.store.retention import expire_transcripts

pytestmark = pytest.mark.usefixtures("database")
FILE = {"file": ("talk.wav", b"RIFF", "audio/wav")}


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client


def take(client: httpx.Client, **options: str) -> UUID:
    answer = client.post("/jobs", files=FILE, data={"model": "oracle", **options})
    assert answer.status_code == 202, answer.text
    return UUID(answer.json()["id"])


def talked(client: httpx.Client, database: Engine) -> UUID:
    """A job in which three speakers say a sentence each."""
    job_id = take(client)
    said = transcript_of(
        *([Word(text=f"Word{n}.", start=2.0 * n, end=2.0 * n + 1, speaker=n)] for n in range(3))
    )
    segments = [
        each.model_copy(update={"speaker": each.words[0].speaker}) for each in said.segments
    ]
    speakers = [Speaker(id=n, name=f"Speaker {n}", speech_s=1.0) for n in range(3)]
    prepare(database, job_id, 1)
    transcribe(database, claim(database, job_id, "transcribe"))
    whole = TRANSCRIPT.model_copy(update={"segments": segments, "speakers": speakers})
    finish(database, claim(database, job_id, "finish"), whole)
    return job_id


def change(client: httpx.Client, job_id: UUID, *speakers: Mapping[str, Any]) -> httpx.Response:
    return client.patch(f"/jobs/{job_id}/speakers", json={"speakers": list(speakers)})


def shown(client: httpx.Client, job_id: UUID, name: str) -> str:
    answer = client.get(f"/jobs/{job_id}/transcript?format={name}")
    return " ".join(docx_paragraphs(answer.content)) if name == "docx" else answer.text


def test_names_are_one_revision_and_in_every_format(client: httpx.Client, database: Engine) -> None:
    job_id = talked(client, database)
    before = client.get(f"/jobs/{job_id}/transcript").headers["etag"]
    answer = change(client, job_id, {"id": 0, "name": "Anna"}, {"id": 1, "name": "Bo <b>"})
    assert answer.json()["revision"] == 1
    assert [each["name"] for each in answer.json()["speakers"]] == ["Anna", "Bo <b>", "Speaker 2"]
    assert client.get(f"/jobs/{job_id}/speakers").json() == answer.json()

    assert shown(client, job_id, "txt") == "Anna: Word0.\nBo <b>: Word1.\nSpeaker 2: Word2.\n"
    assert "<v Bo &lt;b&gt;>Word1." in shown(client, job_id, "vtt")
    assert "\nAnna: Word0.\n" in shown(client, job_id, "srt")
    assert "\tWord0.\tAnna\n" in shown(client, job_id, "tsv")
    assert "00:00:00 – Anna Word0." in shown(client, job_id, "docx")  # noqa: RUF001
    after = client.get(f"/jobs/{job_id}/transcript")
    assert after.headers["etag"] != before
    assert after.json()["speakers"][0]["name"] == "Anna"
    assert client.get(f"/jobs/{job_id}").json()["transcript"]["speakers"][0]["name"] == "Anna"
    assert change(client, job_id, {"id": 0, "name": None}).json()["speakers"][0]["name"] == (
        "Speaker 0"
    )


def test_merged_speakers_are_one_until_they_are_parted(
    client: httpx.Client, database: Engine
) -> None:
    job_id = talked(client, database)
    before = client.get(f"/jobs/{job_id}/transcript").json()
    answer = change(client, job_id, {"id": 1, "merged_into": 0, "name": "X"}).json()
    assert [each["merged_into"] for each in answer["speakers"]] == [None, 0, None]
    found = client.get(f"/jobs/{job_id}/transcript").json()
    assert [each["speaker"] for each in found["segments"]] == [0, 0, 2]
    assert [each["words"][0]["speaker"] for each in found["segments"]] == [0, 0, 2]
    assert [(each["id"], each["speech_s"]) for each in found["speakers"]] == [(0, 2.0), (2, 1.0)]
    assert found["text"] == before["text"]
    assert len(found["paragraphs"]) == 2

    # Whoever was merged into a speaker follows it.
    change(client, job_id, {"id": 0, "merged_into": 2})
    found = client.get(f"/jobs/{job_id}/transcript").json()
    assert {each["speaker"] for each in found["segments"]} == {2}
    parted = change(client, job_id, {"id": 0, "merged_into": None}, {"id": 1, "merged_into": None})
    assert parted.json()["revision"] == 3
    found = client.get(f"/jobs/{job_id}/transcript").json()
    assert [each["speaker"] for each in found["segments"]] == [0, 1, 2]


def test_changes_that_mean_nothing_are_refused_whole(
    client: httpx.Client, database: Engine
) -> None:
    job_id = talked(client, database)
    assert_problem(
        change(client, job_id, {"id": 0, "name": "A"}, {"id": 7, "name": "B"}),
        404,
        "speaker_not_found",
    )
    loop = change(client, job_id, {"id": 0, "merged_into": 1}, {"id": 1, "merged_into": 0})
    assert_problem(loop, 422, "conflicting_options")
    itself = change(client, job_id, {"id": 0, "merged_into": 0})
    assert_problem(itself, 422, "conflicting_options")
    assert_problem(change(client, job_id, {"id": 0, "name": "a\nb"}), 422, "invalid_request")
    assert_problem(change(client, job_id), 422, "invalid_request")
    assert client.get(f"/jobs/{job_id}/speakers").json()["revision"] == 0


def test_names_go_with_the_transcript(client: httpx.Client, database: Engine) -> None:
    job_id = talked(client, database)
    change(client, job_id, {"id": 0, "name": "Anna"})
    expire_transcripts(database, keep_s=0, limit=9)
    assert_problem(client.get(f"/jobs/{job_id}/speakers"), 410, "transcript_deleted")
    with database.connect() as connection:
        kept = connection.exec_driver_sql("SELECT speakers FROM jobs").scalars().all()
    assert kept == [None]


def test_a_job_that_asked_for_no_speakers_has_none(client: httpx.Client, database: Engine) -> None:
    job_id = take(client)
    assert_problem(client.get(f"/jobs/{job_id}/speakers"), 409, "transcript_not_ready")
    prepare(database, job_id, 1)
    transcribe(database, claim(database, job_id, "transcribe"))
    finish(database, claim(database, job_id, "finish"), TRANSCRIPT)
    answer = client.get(f"/jobs/{job_id}/speakers").json()
    assert answer == {"revision": 0, "speakers": None}
    assert client.get(f"/jobs/{job_id}").json()["speakers"] is None


@pytest.mark.parametrize(
    ("speakers", "told"),
    [
        ('{"count": 0}', "greater than or equal to 1"),
        ('{"count": 1000}', "less than or equal to 50"),
        ('{"number": 2}', "unknown"),
        ("many", "boolean"),
        ("{", "expected a JSON object"),
    ],
)
def test_numbers_of_speakers_that_mean_nothing_are_refused(
    client: httpx.Client, speakers: str, told: str
) -> None:
    answer = client.post("/jobs", files=FILE, data={"model": "oracle", "speakers": speakers})
    assert told in str(assert_problem(answer, 422, "invalid_request")["detail"])


@pytest.mark.parametrize(
    ("speakers", "told"),
    [
        ('{"min": 3, "max": 2}', "min is greater than max"),
        ('{"count": 2, "min": 1}', "count stands without min and max"),
    ],
)
def test_numbers_of_speakers_that_contradict_each_other_are_refused(
    client: httpx.Client, speakers: str, told: str
) -> None:
    answer = client.post("/jobs", files=FILE, data={"model": "oracle", "speakers": speakers})
    assert told in str(assert_problem(answer, 422, "conflicting_options")["detail"])


def test_speakers_are_refused_while_nobody_tells_them_apart(client: httpx.Client) -> None:
    for options in ({"speakers": "true"}, {"speakers": '{"count": 2}'}):
        answer = client.post("/jobs", files=FILE, data={"model": "oracle", **options})
        assert_problem(answer, 409, "speakers_unavailable")


def test_channels_need_nobody_to_tell_speakers_apart(client: httpx.Client) -> None:
    job_id = take(client, multichannel="true", speakers="true")
    assert client.get(f"/jobs/{job_id}").json()["speakers"] == {
        "model": None,
        "min": None,
        "max": None,
        "count": None,
        "identify": False,
    }
