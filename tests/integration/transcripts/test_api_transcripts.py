"""What a transcript is sent as, and when it is not sent again."""

from collections.abc import Iterator
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine

from harness.jobs.job_store import TRANSCRIPT, add_job, claim, finish, prepare, transcribe
from harness.jobs.transcripts import docx_paragraphs
from harness.servers.api_server import api, assert_problem
from shared.infra.settings import Settings
from shared.speech.files.formats import MEDIA_TYPES
from shared.speech.names import FORMATS

pytestmark = pytest.mark.usefixtures("database")
DOCX = MEDIA_TYPES["docx"]


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client


@pytest.fixture
def job_id(database: Engine) -> UUID:
    job_id = add_job(database)
    prepare(database, job_id, 1)
    transcribe(database, claim(database, job_id, "transcribe"))
    finish(database, claim(database, job_id, "finish"), TRANSCRIPT)
    return job_id


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        ("text/html,application/xml;q=0.9,*/*;q=0.8", "application/json"),
        ("text/plain", "text/plain"),
        ("Text/VTT; charset=utf-8", "text/vtt"),
        ("application/x-subrip", "application/x-subrip"),
        ("text/tab-separated-values", "text/tab-separated-values"),
        (DOCX, DOCX),
        ("text/*", "text/plain"),
        ("text/plain;q=0.5, text/vtt", "text/vtt"),
        ("text/*;q=0.9, text/plain;q=0.1, application/json;q=0.2", "text/vtt"),
        ("application/json;q=0, */*;q=0.1", "text/plain"),
    ],
)
def test_a_transcript_is_what_the_client_likes_best(
    client: httpx.Client, job_id: UUID, accept: str, media_type: str
) -> None:
    answer = client.get(f"/jobs/{job_id}/transcript", headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].partition(";")[0] == media_type
    assert answer.headers["vary"] == "Accept"


@pytest.mark.parametrize("accept", ["image/png", "text/html, application/pdf", "*/*;q=0", "text"])
def test_a_client_that_takes_no_format_is_told_what_there_is(
    client: httpx.Client, job_id: UUID, accept: str
) -> None:
    url = f"/jobs/{job_id}/transcript"
    problem = assert_problem(client.get(url, headers={"Accept": accept}), 406, "not_acceptable")
    assert set(problem["offered"]) == {each.partition(";")[0] for each in MEDIA_TYPES.values()}
    named = client.get(f"{url}?format=srt", headers={"Accept": accept})
    assert named.headers["content-type"].startswith("application/x-subrip")


def test_a_transcript_that_the_client_has_is_not_sent_again(
    client: httpx.Client, job_id: UUID
) -> None:
    url = f"/jobs/{job_id}/transcript"
    tags = {}
    for name in FORMATS:
        answer = client.get(f"{url}?format={name}")
        tags[name] = answer.headers["etag"]
        again = client.get(
            f"{url}?format={name}", headers={"If-None-Match": f'"other", W/{tags[name]}'}
        )
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tags[name]
        assert client.head(f"{url}?format={name}").headers["etag"] == tags[name]
    assert all(tag.startswith('"') for tag in tags.values())
    assert len(set(tags.values())) == len(FORMATS)
    narrow = client.get(
        f"{url}?format=srt&max_line_width=20", headers={"If-None-Match": tags["srt"]}
    )
    assert narrow.status_code == 200
    assert client.get(url, headers={"If-None-Match": "*"}).status_code == 304


def test_what_may_still_change_has_no_etag(client: httpx.Client, database: Engine) -> None:
    job_id = add_job(database)
    answer = client.get(f"/jobs/{job_id}/transcript?partial=true", headers={"If-None-Match": "*"})
    assert (answer.status_code, answer.headers.get("etag")) == (200, None)
    assert answer.headers["cache-control"] == "no-store"


def test_a_word_document_is_sent_as_a_file(client: httpx.Client, job_id: UUID) -> None:
    answer = client.get(f"/jobs/{job_id}/transcript?format=docx")
    assert answer.headers["content-type"] == DOCX
    assert docx_paragraphs(answer.content) == ["00:00:00", "hello"]
