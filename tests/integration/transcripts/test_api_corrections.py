"""Corrections over the API: a journal on an untouched transcript."""

from collections.abc import Iterator
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, text

from harness.jobs.job_store import TRANSCRIPT, add_job, claim, finish, prepare, transcribe
from harness.jobs.transcripts import docx_paragraphs
from harness.jobs.word_streams import transcript_of
from harness.servers.api_server import api, assert_problem
from shared.infra.settings import Settings
from shared.speech.names import FORMATS
from shared.speech.transcript.transcript import Word
from shared.store.jobs.delete import delete_job
from shared.store.retention import expire_transcripts

pytestmark = pytest.mark.usefixtures("database")
SEGMENTS = ("the cat sat", "and was pleased", "with itself")


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client


@pytest.fixture
def job_id(database: Engine) -> UUID:
    job_id = add_job(database)
    prepare(database, job_id, 1)
    transcribe(database, claim(database, job_id, "transcribe"))
    said = transcript_of(
        *(
            [Word(text=word, start=3 * n + m, end=3 * n + m + 0.5) for m, word in enumerate(words)]
            for n, words in enumerate(map(str.split, SEGMENTS))
        )
    )
    whole = TRANSCRIPT.model_copy(update={"segments": said.segments, "text": said.text})
    finish(database, claim(database, job_id, "finish"), whole)
    return job_id


def correct(
    client: httpx.Client, job_id: UUID, segment: int, written: str, seen: str = "*"
) -> httpx.Response:
    seen = seen if seen == "*" else f'"{seen}"'
    return client.post(
        f"/jobs/{job_id}/changes",
        json={"segment": segment, "text": written},
        headers={"If-Match": seen},
    )


def move(client: httpx.Client, job_id: UUID, where: str, seen: str = "*") -> httpx.Response:
    headers = {"If-Match": seen if seen == "*" else f'"{seen}"'}
    return client.post(f"/jobs/{job_id}/changes/{where}", headers=headers)


def shown(client: httpx.Client, job_id: UUID, name: str = "txt", query: str = "") -> bytes:
    answer = client.get(f"/jobs/{job_id}/transcript?format={name}{query}")
    assert answer.status_code == 200, answer.text
    if name == "docx":
        return " ".join(docx_paragraphs(answer.content)).encode()
    return answer.content


def test_every_format_has_the_correction_and_the_original_is_the_same_to_the_byte(
    client: httpx.Client, job_id: UUID
) -> None:
    before = {name: shown(client, job_id, name) for name in FORMATS}
    tag = client.get(f"/jobs/{job_id}/transcript").headers["etag"]

    answer = correct(client, job_id, 0, "  the  dog\nsat ", seen="0").json()

    assert (answer["revision"], answer["can_undo"], answer["can_redo"]) == (1, True, False)
    assert [word["text"] for word in answer["segment"]["words"]] == ["the", "dog", "sat"]
    for name in FORMATS:
        assert b"dog" in shown(client, job_id, name), name
        assert shown(client, job_id, name, "&original=true") == before[name]
    changed = client.get(f"/jobs/{job_id}/transcript", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    job = client.get(f"/jobs/{job_id}").json()
    assert job["transcript"]["text"] == "the dog sat and was pleased with itself"


def test_what_was_corrected_is_told_as_a_change(client: httpx.Client, job_id: UUID) -> None:
    correct(client, job_id, 1, "and slept")
    changes = client.get(f"/jobs/{job_id}/changes").json()
    assert changes == {
        "revision": 1,
        "can_undo": True,
        "can_redo": False,
        "changes": [
            {
                "kind": "correction",
                "segment": 1,
                "start": 3.0,
                "end": 5.5,
                "before": "and was pleased",
                "after": "and slept",
            }
        ],
    }


def test_a_segment_that_somebody_else_has_changed_is_refused_with_both_texts(
    client: httpx.Client, job_id: UUID
) -> None:
    correct(client, job_id, 0, "mine", seen="0")
    elsewhere = correct(client, job_id, 1, "nobody minds", seen="0")
    assert elsewhere.status_code == 200

    problem = assert_problem(
        correct(client, job_id, 0, "yours", seen="0"), 409, "correction_conflict"
    )

    assert (problem["theirs"], problem["yours"]) == ("mine", "yours")
    assert problem["current"]["revision"] == 2
    assert problem["current"]["segment"]["text"] == "mine"
    assert correct(client, job_id, 0, "yours", seen="2").json()["revision"] == 3
    assert shown(client, job_id) == b"yours nobody minds with itself\n"


def test_corrections_are_undone_and_redone_in_order(client: httpx.Client, job_id: UUID) -> None:
    assert_problem(move(client, job_id, "undo"), 409, "nothing_to_undo")
    for segment, written in ((0, "one"), (0, "two"), (2, "three")):
        correct(client, job_id, segment, written)
    texts = []
    for where in ("undo", "undo", "redo", "undo", "undo"):
        answer = move(client, job_id, where).json()
        texts.append((answer["segment_id"], answer["segment"]["text"]))
    assert texts == [(2, "with itself"), (0, "one"), (0, "two"), (0, "one"), (0, "the cat sat")]
    assert_problem(move(client, job_id, "undo"), 409, "nothing_to_undo")
    assert shown(client, job_id) == shown(client, job_id, query="&original=true")
    correct(client, job_id, 1, "anew")
    assert_problem(move(client, job_id, "redo"), 409, "nothing_to_undo")


def test_an_undo_of_somebody_who_has_not_seen_the_last_revision_is_refused(
    client: httpx.Client, job_id: UUID
) -> None:
    correct(client, job_id, 0, "one", seen="0")
    correct(client, job_id, 1, "two", seen="1")
    problem = assert_problem(move(client, job_id, "undo", seen="1"), 409, "correction_conflict")
    assert problem["current"]["segment_id"] == 1
    assert move(client, job_id, "undo", seen="2").json()["segment_id"] == 1


def test_an_emptied_segment_is_left_out_until_that_is_undone(
    client: httpx.Client, job_id: UUID
) -> None:
    assert correct(client, job_id, 1, " ").json()["segment"] is None
    assert shown(client, job_id) == b"the cat sat\nwith itself\n"  # after a pause
    assert move(client, job_id, "undo").json()["segment"]["text"] == SEGMENTS[1]


def test_a_search_finds_what_was_heard_and_shows_the_corrections(
    client: httpx.Client, job_id: UUID
) -> None:
    correct(client, job_id, 0, "the dog sat")
    correct(client, job_id, 1, "and was proud")
    (hit,) = client.get("/search?q=pleased").json()["hits"]
    assert (hit["before"], hit["text"], hit["matches"]) == ("the dog sat", "and was proud", [])


def test_an_equal_job_has_its_own_corrections(client: httpx.Client, database: Engine) -> None:
    file = {"file": ("a.wav", b"RIFF", "audio/wav")}
    first = UUID(client.post("/jobs", files=file, data={"model": "oracle"}).json()["id"])
    prepare(database, first, 1)
    transcribe(database, claim(database, first, "transcribe"))
    finish(database, claim(database, first, "finish"))
    correct(client, first, 0, "changed")
    copy = UUID(client.post("/jobs", files=file, data={"model": "oracle"}).json()["id"])
    assert shown(client, copy) == b"hello\n"
    assert shown(client, first) == b"changed\n"


@pytest.mark.parametrize("how", ["deleted", "expired"])
def test_corrections_go_with_the_transcript(
    client: httpx.Client, database: Engine, job_id: UUID, how: str
) -> None:
    correct(client, job_id, 0, "a secret")
    if how == "deleted":
        delete_job(database, "default", job_id, max_attempts=2)
    else:
        assert expire_transcripts(database, keep_s=0, limit=10)
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM corrections")).scalar_one() == 0
    code = {"deleted": (404, "job_not_found"), "expired": (410, "transcript_deleted")}[how]
    assert_problem(correct(client, job_id, 0, "more"), *code)


@pytest.mark.parametrize(
    ("segment", "written", "headers", "status", "code"),
    [
        (9, "x", {"If-Match": '"0"'}, 404, "segment_not_found"),
        (0, "x" * 5001, {"If-Match": '"0"'}, 422, "invalid_request"),
        (0, "x", {}, 422, "invalid_request"),
        (0, "x", {"If-Match": "0"}, 422, "invalid_request"),
    ],
)
def test_corrections_that_mean_nothing_are_refused(
    client: httpx.Client,
    job_id: UUID,
    segment: int,
    written: str,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    body = {"segment": segment, "text": written}
    answer = client.post(f"/jobs/{job_id}/changes", json=body, headers=headers)
    assert_problem(answer, status, code)


def test_peaks_are_told_once_the_audio_is_prepared(client: httpx.Client, database: Engine) -> None:
    job_id = add_job(database)
    assert_problem(client.get(f"/jobs/{job_id}/peaks"), 409, "peaks_not_ready")
    prepare(database, job_id, 1)
    assert client.get(f"/jobs/{job_id}/peaks").json() == {"duration_s": 2.0, "peaks": []}
