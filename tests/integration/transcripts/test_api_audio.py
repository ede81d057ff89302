"""A job's audio over real sockets: whole, in parts, of copies, and once it is gone."""

from collections.abc import Iterator
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, text
from uuid_utils.compat import uuid7

from harness.jobs.ended import lose_audio
from harness.jobs.equal import compute, submit
from harness.jobs.job_store import add_remote_job, add_stored_job, claim, new_job
from harness.servers.api_server import api, assert_problem
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.store import steps
from shared.store.jobs.create import create_job
from shared.store.limits import NO_LIMITS
from shared.store.objects.keys import fetched_key, source_key, upload_key
from shared.store.uploads import NewUpload, create_upload, finish_upload, note_digest

pytestmark = pytest.mark.usefixtures("database")
SOURCE = bytes(range(256)) * 5000  # more than one block


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client


@pytest.fixture
def job_id(database: Engine, storage: Storage) -> UUID:
    return add_stored_job(database, storage, SOURCE)


def test_the_file_is_sent_whole_as_it_was_received(client: httpx.Client, job_id: UUID) -> None:
    answer = client.get(f"/jobs/{job_id}/audio")
    assert (answer.status_code, answer.content) == (200, SOURCE)
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-type"] in ("audio/x-wav", "audio/wav")
    assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''a.wav"
    headed = client.head(f"/jobs/{job_id}/audio")
    assert (headed.headers["content-length"], headed.content) == (str(len(SOURCE)), b"")
    again = client.get(f"/jobs/{job_id}/audio", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=1279990-", 1_279_990, 1_280_000),
        ("bytes=-5", 1_279_995, 1_280_000),
        ("bytes=1000000-99999999", 1_000_000, 1_280_000),
        ("bytes=-99999999", 0, 1_280_000),
    ],
)
def test_a_part_is_sent_where_one_is_asked_for(
    client: httpx.Client, job_id: UUID, wanted: str, start: int, stop: int
) -> None:
    answer = client.get(f"/jobs/{job_id}/audio", headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (206, SOURCE[start:stop])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(SOURCE)}"
    assert answer.headers["content-length"] == str(stop - start)


@pytest.mark.parametrize("wanted", ["bytes=1280000-", "bytes=-0", "bytes=9999999-99999999"])
def test_a_part_that_the_file_lacks_is_refused_with_its_size(
    client: httpx.Client, job_id: UUID, wanted: str
) -> None:
    answer = client.get(f"/jobs/{job_id}/audio", headers={"Range": wanted})
    assert_problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(SOURCE)}"


@pytest.mark.parametrize("wanted", ["bytes=5-2", "lines=1-2", "bytes=0-1,4-5", "bytes=-", "x"])
def test_what_is_no_single_range_gets_the_whole(
    client: httpx.Client, job_id: UUID, wanted: str
) -> None:
    answer = client.get(f"/jobs/{job_id}/audio", headers={"Range": wanted})
    assert (answer.status_code, len(answer.content)) == (200, len(SOURCE))


def test_a_client_with_a_part_of_another_file_gets_the_whole(
    client: httpx.Client, job_id: UUID
) -> None:
    etag = client.head(f"/jobs/{job_id}/audio").headers["etag"]
    for condition, status in ((etag, 206), ('"other"', 200), (f"W/{etag}", 200)):
        answer = client.get(
            f"/jobs/{job_id}/audio", headers={"Range": "bytes=0-9", "If-Range": condition}
        )
        assert answer.status_code == status, condition


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("talk.mp3", "audio/mpeg"),
        ("talk.mp4", "video/mp4"),
        ("page.html", "application/octet-stream"),
        ("drawing.svg", "application/octet-stream"),
        ("talk", "application/octet-stream"),
    ],
)
def test_a_file_is_never_sent_as_a_page(
    client: httpx.Client, database: Engine, storage: Storage, name: str, media_type: str
) -> None:
    job = new_job(source_name=name, source_bytes=3)
    create_job(database, job, max_attempts=1)
    storage.put(source_key(job.id), b"abc")
    answer = client.get(f"/jobs/{job.id}/audio")
    assert answer.headers["content-type"] == media_type
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_copy_has_the_audio_of_the_job_whose_transcript_it_has(
    client: httpx.Client, database: Engine, storage: Storage
) -> None:
    original = submit(database)
    storage.put(source_key(original), b"x")
    compute(database, original)
    copy = submit(database)
    with database.begin() as connection:
        lost = connection.execute(
            text("SELECT audio_deleted_at FROM jobs WHERE id = :id"), {"id": copy}
        ).scalar_one()
    assert lost is not None
    assert client.get(f"/jobs/{copy}/audio").content == b"x"


def test_audio_that_is_not_kept_any_more_is_gone(client: httpx.Client, database: Engine) -> None:
    job_id = submit(database)
    compute(database, job_id)
    lose_audio(database, "succeeded")
    assert_problem(client.get(f"/jobs/{job_id}/audio"), 410, "audio_deleted")


def test_a_file_that_came_by_an_upload_is_sent(
    client: httpx.Client, database: Engine, storage: Storage
) -> None:
    new = NewUpload(uuid7(), "default", "talk.wav", len(SOURCE), None, resumable=True)
    upload = create_upload(database, new, NO_LIMITS, keep_s=600)
    storage.put(upload_key(upload.id), SOURCE)
    note_digest(database, finish_upload(database, upload, keep_s=600), "0" * 64, keep_s=600)
    job = client.post("/jobs", json={"upload_id": str(upload.id), "model": "oracle"}).json()
    assert client.get(f"/jobs/{job['id']}/audio").content == SOURCE


def test_a_file_at_a_url_is_sent_once_it_is_fetched(
    client: httpx.Client, database: Engine, storage: Storage
) -> None:
    job_id = add_remote_job(database, "https://files.example/a.mp3")
    problem = assert_problem(client.get(f"/jobs/{job_id}/audio"), 409, "audio_not_fetched")
    assert problem["state"] == "queued"

    fetching = claim(database, job_id, "fetch")
    key = fetched_key(job_id, fetching.epoch)
    storage.put(key, SOURCE)
    steps.complete_fetch(
        database,
        fetching,
        steps.Fetched(key, "a.mp3", len(SOURCE), "0" * 64),
        fingerprint=None,
        fetch_s=0,
        max_attempts=1,
    )

    answer = client.get(f"/jobs/{job_id}/audio")
    assert (answer.content, answer.headers["content-type"]) == (SOURCE, "audio/mpeg")


def test_a_file_that_the_object_store_lacks_is_an_outage(
    client: httpx.Client, database: Engine
) -> None:
    job_id = submit(database)
    assert_problem(client.get(f"/jobs/{job_id}/audio"), 503, "storage_unavailable")


def test_nobody_gets_the_audio_of_others(client: httpx.Client, database: Engine) -> None:
    job = new_job(tenant="somebody else")
    create_job(database, job, max_attempts=1)
    assert_problem(client.get(f"/jobs/{job.id}/audio"), 404, "job_not_found")
