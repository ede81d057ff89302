"""Edits over the API: every format has them, and the untouched text stays readable."""

from collections.abc import Iterator
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine

from harness.jobs.job_store import TRANSCRIPT, claim, finish, prepare, transcribe
from harness.jobs.transcripts import docx_paragraphs
from harness.jobs.word_streams import transcript_of
from harness.servers.api_server import api, assert_problem
from shared.infra.settings import Settings
from shared.speech.names import FORMATS
from shared.speech.transcript.transcript import Word

pytestmark = pytest.mark.usefixtures("database")
FILE = {"file": ("talk.wav", b"RIFF", "audio/wav")}
EDITS = {"numerals": "true", "mask": "darn, heck", "spelling": '{"long hand": "Longhand"}'}
SAID = "Darn, long hand has twenty one words."
EDITED = "****, Longhand has 21 words."


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client


def take(client: httpx.Client, **options: str) -> UUID:
    answer = client.post("/jobs", files=FILE, data={"model": "oracle", **options})
    assert answer.status_code == 202, answer.text
    return UUID(answer.json()["id"])


def end(database: Engine, job_id: UUID) -> None:
    words = [Word(text=text, start=n, end=n + 0.5) for n, text in enumerate(SAID.split())]
    said = transcript_of(words)
    prepare(database, job_id, 1)
    transcribe(database, claim(database, job_id, "transcribe"))
    whole = TRANSCRIPT.model_copy(
        update={"text": said.text, "segments": said.segments, "paragraphs": said.paragraphs}
    )
    finish(database, claim(database, job_id, "finish"), whole)


def shown(client: httpx.Client, job_id: UUID, name: str, query: str = "") -> str:
    answer = client.get(f"/jobs/{job_id}/transcript?format={name}{query}")
    assert answer.status_code == 200, answer.text
    return " ".join(docx_paragraphs(answer.content)) if name == "docx" else answer.text


def test_every_format_has_the_edits_and_the_original_none(
    client: httpx.Client, database: Engine
) -> None:
    job_id = take(client, **EDITS)
    end(database, job_id)

    for name in FORMATS:
        assert EDITED in shown(client, job_id, name), name
        original = shown(client, job_id, name, "&original=true")
        assert SAID in original, name
        assert "Longhand" not in original
    job = client.get(f"/jobs/{job_id}?include=words").json()
    assert job["transcript"]["text"] == EDITED
    assert [word["text"] for word in job["transcript"]["segments"][0]["words"]] == EDITED.split()
    assert client.get(f"/jobs/{job_id}").json()["transcript"]["text"] == EDITED
    assert job["edits"] == {
        "numerals": True,
        "mask": ["darn", "heck"],
        "spelling": {"long hand": "Longhand"},
    }


def test_what_was_changed_is_told_with_its_time(client: httpx.Client, database: Engine) -> None:
    job_id = take(client, **EDITS)
    assert_problem(client.get(f"/jobs/{job_id}/changes"), 409, "transcript_not_ready")
    end(database, job_id)

    changes = client.get(f"/jobs/{job_id}/changes").json()["changes"]

    assert [(each["kind"], each["start"], each["before"], each["after"]) for each in changes] == [
        ("mask", 0.0, "Darn,", "****,"),
        ("spelling", 1.0, "long hand", "Longhand"),
        ("numerals", 4.0, "twenty one", "21"),
    ]


def test_jobs_that_differ_in_edits_alone_share_a_transcript(
    client: httpx.Client, database: Engine
) -> None:
    plain = take(client)
    end(database, plain)

    copy = take(client, **EDITS)

    job = client.get(f"/jobs/{copy}").json()
    assert (job["state"], job["cached"], job["transcript"]["text"]) == ("succeeded", True, EDITED)
    assert client.get(f"/jobs/{plain}").json()["transcript"]["text"] == SAID
    assert client.get(f"/jobs/{plain}/changes").json()["changes"] == []
    tags = [
        client.get(f"/jobs/{job_id}/transcript{query}").headers["etag"]
        for job_id, query in ((plain, ""), (copy, ""), (copy, "?original=true"))
    ]
    assert len(set(tags)) == 3


def test_a_search_shows_hits_as_their_job_does(client: httpx.Client, database: Engine) -> None:
    end(database, take(client, **EDITS))
    (hit,) = client.get("/search?q=words").json()["hits"]
    assert hit["text"] == EDITED
    assert hit["matches"] == [{"text": "words.", "start": 6.0, "end": 6.5}]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"spelling": "[1]"}, "expected a JSON object"),
        ({"spelling": '{"a": 1}'}, "whose values are texts"),
        ({"spelling": '{"a": "' + "b" * 1000 + '"}'}, "1,000 characters"),
        ({"mask": "a" * 1001}, "1,000 characters"),
        ({"numerals": "many"}, "numerals"),
    ],
)
def test_edits_that_mean_nothing_are_refused(
    client: httpx.Client, options: dict[str, str], told: str
) -> None:
    answer = client.post("/jobs", files=FILE, data={"model": "oracle", **options})
    assert told in str(assert_problem(answer, 422, "invalid_request")["detail"])
