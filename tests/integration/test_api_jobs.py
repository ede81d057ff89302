"""Submitting jobs over real sockets, and every way in which that is refused."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from apiserver import (
    api,
    api_process,
    assert_problem,
    open_upload,
    part,
    peak_memory,
    read_answer,
    serving,
    stored,
)
from jobstore import TRANSCRIPT, add_job, claim, prepare, transcribe
from processes import wait_until
from sqlalchemy import Engine

from api.app import create_app
from api.uploads import Receiver
from shared import steps
from shared.formats import FORMATS
from shared.jobs import count_jobs
from shared.settings import Settings
from shared.storage import PART_BYTES, Storage

MIB = 1024**2


pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers.model_copy(update={"max_upload_bytes": 20 * MIB})) as client:
        yield client


def finish(database: Engine, job_id: UUID) -> None:
    prepare(database, job_id, 1)
    transcribe(database, claim(database, job_id, "transcribe"))
    claimed = claim(database, job_id, "finish")
    steps.complete_finish(database, claimed, transcript=TRANSCRIPT, manifest={}, metrics={})


def test_an_accepted_job_is_committed_and_its_file_stored(
    client: httpx.Client, storage: Storage
) -> None:
    audio = os.urandom(PART_BYTES + 12_345)

    answer = client.post(
        "/jobs", data={"language": "en", "vad": "energy"}, files={"file": ("a b.wav", audio)}
    )

    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/jobs/{job['id']}" == job["links"]["self"]
    assert UUID(job["id"]).version == 7
    assert job["source"] == {
        "name": "a b.wav",
        "bytes": len(audio),
        "sha256": hashlib.sha256(audio).hexdigest(),
    }
    assert (job["state"], job["model"], job["language"]) == ("queued", "oracle", "en")
    assert job["progress"]["stage"] == "queued"
    assert client.get(answer.headers["location"]).json() == {**job, "transcript": None}
    assert storage.read(f"jobs/{job['id']}/source", 0, len(audio) + 1) == audio


def test_fields_may_follow_the_file_and_be_empty(client: httpx.Client) -> None:
    body = part("file") + b"x\r\n" + part("model", "starter") + part("language", "") + b"--b--\r\n"
    answer = client.post(
        "/jobs", content=body, headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert answer.status_code == 202, answer.text
    assert (answer.json()["model"], answer.json()["language"]) == ("starter", None)


FILE = {"file": ("a.wav", b"audio")}


@pytest.mark.parametrize(
    ("fields", "files", "status", "code", "detail"),
    [
        ({}, {"file": ("a.wav", b"")}, 422, "empty_file", "empty"),
        ({"model": "nonesuch"}, FILE, 422, "unknown_model", "nonesuch"),
        ({"model": "starter", "language": "de"}, FILE, 422, "unsupported_language", "de"),
        ({"language": "German"}, FILE, 422, "invalid_request", "such as 'en'"),
        ({"vad": "loud"}, FILE, 422, "invalid_request", "vad"),
        ({"speed": "9", "tone": "x"}, FILE, 422, "invalid_request", "'speed', 'tone'"),
        ({"model": ["starter", "oracle"]}, FILE, 422, "invalid_request", "'model'"),
        ({"model": "x" * 5000}, FILE, 422, "invalid_request", "'model'"),
        ({}, {"audio": ("a.wav", b"x"), **FILE}, 422, "invalid_request", "'audio'"),
        ({}, {"file": ("a.wav", bytes(20 * MIB + 1))}, 413, "upload_too_large", "20971520"),
        ({"model": "starter"}, {"other": b""}, 422, "invalid_request", "file"),
    ],
)
def test_a_bad_form_is_refused_and_leaves_nothing(
    client: httpx.Client,
    storage: Storage,
    database: Engine,
    fields: dict[str, str],
    files: dict[str, tuple[str, bytes]],
    status: int,
    code: str,
    detail: str,
) -> None:
    before = stored(storage)
    answer = client.post("/jobs", data=fields, files=files)
    assert detail in str(assert_problem(answer, status, code)["detail"])
    assert stored(storage) == before
    assert sum(count_jobs(database).values()) == 0


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("application/json", b"{}", 415, "unsupported_media_type"),
        ("multipart/form-data", b"x", 422, "invalid_request"),
        ("multipart/form-data; boundary=b", b"nonsense", 422, "invalid_request"),
        ("multipart/form-data; boundary=b", part("file") + b"cut o", 422, "invalid_request"),
        ("multipart/form-data; boundary=b", b"", 422, "invalid_request"),
    ],
)
def test_a_body_that_is_no_form_is_refused(
    client: httpx.Client, content_type: str, body: bytes, status: int, code: str
) -> None:
    answer = client.post("/jobs", content=body, headers={"content-type": content_type})
    assert_problem(answer, status, code)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (part("model", "nonesuch"), "unknown_model"),
        (part("model", "starter") + part("language", "de"), "unsupported_language"),
        (part("vad", "loud"), "invalid_request"),
        (part("speed", "9"), "invalid_request"),
    ],
)
def test_bad_options_are_refused_before_the_file_is_sent(
    client: httpx.Client, fields: bytes, code: str
) -> None:
    with open_upload(str(client.base_url), "Content-Length: 10000000") as connection:
        connection.sendall(fields + part("file"))
        answer = read_answer(connection)
    assert answer.startswith("422\n")
    assert code in answer


def test_a_declared_excess_is_refused_before_the_body_is_asked_for(client: httpx.Client) -> None:
    head = f"Content-Length: {30 * MIB}\r\nExpect: 100-continue"
    with open_upload(str(client.base_url), head) as connection:
        answer = read_answer(connection)
    assert answer.startswith("413\n")
    assert "upload_too_large" in answer


def test_memory_stays_flat_under_a_chunked_excess(settings: Settings, tmp_path: Path) -> None:
    limited = settings.model_copy(update={"max_upload_bytes": 96 * MIB})
    with api_process(limited, tmp_path / "api.log") as (client, pid):
        client.post("/jobs", files={"file": ("a.wav", bytes(9 * MIB))})
        before = peak_memory(pid)

        def chunks() -> Iterator[bytes]:
            yield part("file")
            for _ in range(160):
                yield bytes(MIB)
            yield b"\r\n--b--\r\n"

        answer = client.post(
            "/jobs", content=chunks(), headers={"content-type": "multipart/form-data; boundary=b"}
        )

        assert_problem(answer, 413, "upload_too_large")
        assert peak_memory(pid) - before < 32 * MIB


def test_bytes_beside_the_file_count_too(client: httpx.Client) -> None:
    body = part("file") + b"x\r\n--b--\r\n" + bytes(21 * MIB)

    def chunks() -> Iterator[bytes]:
        yield body

    answer = client.post(
        "/jobs", content=chunks(), headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert_problem(answer, 413, "upload_too_large")


def test_a_client_that_goes_away_leaves_no_object(client: httpx.Client, storage: Storage) -> None:
    before = stored(storage)
    with open_upload(str(client.base_url), "Content-Length: 20000000") as connection:
        connection.sendall(part("file") + bytes(PART_BYTES + 3 * MIB))
        wait_until(lambda: stored(storage) != before, within_s=10)
    wait_until(lambda: stored(storage) == before, within_s=10)


def test_a_client_that_falls_silent_is_given_up_and_leaves_no_object(
    client: httpx.Client, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = {**(Receiver.__init__.__kwdefaults__ or {}), "idle_s": 0.5}
    monkeypatch.setattr(Receiver.__init__, "__kwdefaults__", defaults)
    before = stored(storage)
    with open_upload(str(client.base_url), "Content-Length: 20000000") as connection:
        connection.sendall(part("file") + bytes(PART_BYTES + MIB))
        answer = read_answer(connection)
    assert answer.startswith("408\n")
    assert "upload_stalled" in answer
    assert stored(storage) == before


def test_a_server_told_to_stop_ends_uploads_without_a_trace(
    settings: Settings, storage: Storage
) -> None:
    before = stored(storage)
    with serving(create_app(settings), grace_s=1) as url:
        connection = open_upload(url, "Content-Length: 20000000")
        connection.sendall(part("file") + bytes(PART_BYTES + 3 * MIB))
        wait_until(lambda: stored(storage) != before, within_s=10)
    connection.close()
    assert stored(storage) == before


@pytest.mark.parametrize("job_id", ["01890000-0000-7000-8000-000000000000", "x", "%7B1%7D", "%00"])
@pytest.mark.parametrize("suffix", ["", "/transcript"])
def test_unknown_foreign_and_malformed_ids_are_one_404(
    client: httpx.Client, database: Engine, job_id: str, suffix: str
) -> None:
    foreign = str(add_job(database, tenant="somebody else"))
    problems = []
    for tried in (job_id, foreign):
        problem = assert_problem(client.get(f"/jobs/{tried}{suffix}"), 404, "job_not_found")
        problems.append({**problem, "detail": "", "instance": "", "request_id": ""})
        assert re.fullmatch(r"there is no job \S+", str(problem["detail"]))
    assert problems[0] == problems[1]


def test_a_transcript_asked_for_too_early_is_a_conflict_that_names_the_state(
    client: httpx.Client, database: Engine
) -> None:
    job_id = add_job(database)
    problem = assert_problem(client.get(f"/jobs/{job_id}/transcript"), 409, "transcript_not_ready")
    assert problem["state"] == "queued"


def test_a_finished_job_has_its_transcript_in_every_format(
    client: httpx.Client, database: Engine
) -> None:
    job_id = add_job(database)
    finish(database, job_id)

    job = client.get(f"/jobs/{job_id}").json()

    assert (job["state"], job["progress"]["stage"]) == ("succeeded", "done")
    assert job["progress"]["chunks_known"] is True
    assert job["transcript"]["text"] == "hello"
    assert client.get(f"/jobs/{job_id}/transcript").json()["text"] == "hello"
    for name in FORMATS:
        answer = client.get(f"/jobs/{job_id}/transcript", params={"format": name})
        assert answer.status_code == 200, name
    problem = assert_problem(
        client.get(f"/jobs/{job_id}/transcript?format=pdf"), 422, "unknown_format"
    )
    assert "srt" in str(problem["detail"])


def test_jobs_are_listed_newest_first_page_by_page(client: httpx.Client, database: Engine) -> None:
    ids = [str(add_job(database)) for _ in range(5)]
    add_job(database, tenant="somebody else")
    seen: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get("/jobs", params={"limit": 2, **cursor}).json()
        seen.append([job["id"] for job in page["jobs"]])
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == [ids[:-3:-1], ids[-3:-5:-1], ids[:1]]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=x"])
def test_a_bad_page_is_refused(client: httpx.Client, query: str) -> None:
    assert_problem(client.get(f"/jobs?{query}"), 422, "invalid_request")


def test_a_job_is_canceled_once_and_for_all(client: httpx.Client, database: Engine) -> None:
    job_id = add_job(database)
    for _ in range(2):
        answer = client.post(f"/jobs/{job_id}/cancel")
        assert answer.status_code == 200
        assert answer.json()["state"] == "canceled"
    assert client.get(f"/jobs/{job_id}").json()["state"] == "canceled"


def test_a_job_that_has_ended_is_not_canceled(client: httpx.Client, database: Engine) -> None:
    job_id = add_job(database)
    finish(database, job_id)
    assert_problem(client.post(f"/jobs/{job_id}/cancel"), 409, "job_ended")
    assert client.get(f"/jobs/{job_id}").json()["state"] == "succeeded"


def test_an_unknown_job_cannot_be_canceled(client: httpx.Client) -> None:
    assert_problem(client.post(f"/jobs/{UUID(int=7)}/cancel"), 404, "job_not_found")
