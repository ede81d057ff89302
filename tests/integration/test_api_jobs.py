"""Submitting jobs over real sockets, and every way in which that is refused."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx
import jobstore
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
from shared.formats import FORMATS
from shared.jobs import count_jobs
from shared.options import JobOptions
from shared.settings import Settings
from shared.storage import PART_BYTES, Storage
from shared.transcript import Segment, Transcript, Word

MIB = 1024**2


pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers.model_copy(update={"max_upload_bytes": 20 * MIB})) as client:
        yield client


def finish(database: Engine, job_id: UUID, transcript: Transcript = TRANSCRIPT) -> None:
    prepare(database, job_id, 1)
    transcribe(database, claim(database, job_id, "transcribe"))
    jobstore.finish(database, claim(database, job_id, "finish"), transcript)


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
    assert (answer.json()["model"], answer.json()["language"]) == ("starter", "en")


def test_every_option_is_taken_and_shown(client: httpx.Client) -> None:
    chosen = {
        "model": "whisper-tiny",
        "language": "de",
        "task": "translate",
        "prompt": "Dr. Müller says",
        "hotwords": "Tardis",
        "vad": "off",
        "multichannel": "true",
        "multilingual": "0",
        "reference": "what was said " * 100_000,
        "cache": "no",
    }
    answer = client.post("/jobs", data=chosen, files={"file": ("a.wav", b"audio")})
    assert answer.status_code == 202, answer.text
    shown = client.get(answer.headers["location"]).json()
    same = ("model", "language", "task", "prompt", "hotwords", "vad")
    assert {name: shown[name] for name in same} == {name: chosen[name] for name in same}
    assert (shown["multichannel"], shown["multilingual"], shown["cached"]) == (True, False, False)
    assert shown["detected_language"] is None


def test_what_the_default_model_cannot_do_may_be_asked_of_one_named_after_the_file(
    client: httpx.Client,
) -> None:
    file_first = part("task", "translate") + part("file") + b"x\r\n" + part("model", "whisper-base")
    answer = client.post(
        "/jobs",
        content=file_first + b"--b--\r\n",
        headers={"content-type": "multipart/form-data; boundary=b"},
    )
    assert answer.status_code == 202, answer.text


def test_a_language_has_the_model_that_the_catalogue_prefers_for_it(
    servers: Settings, tmp_path: Path
) -> None:
    catalogue = tmp_path / "models.toml"
    text = servers.catalogue.read_text()
    at = text.index("[models.oracle]")
    prefers = text[:at] + text[at:].replace(
        "hidden = true", 'hidden = true\npreferred_for = ["ha"]'
    )
    catalogue.write_text(prefers)
    chosen = servers.model_copy(update={"catalogue": catalogue, "default_model": "whisper-tiny"})
    with api(chosen) as client:
        models = [
            client.post("/jobs", data=fields, files=FILE).json()["model"]
            for fields in ({"language": "ha"}, {"language": "de"}, {"model": "auto"}, {})
        ]
    assert models == ["oracle", "whisper-tiny", "whisper-tiny", "whisper-tiny"]


def test_the_document_shows_every_option_of_the_form(client: httpx.Client) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/jobs"]["post"]
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert set(form) == {"file", *JobOptions.model_fields}
    assert all(field["description"] for field in form.values())


FILE = {"file": ("a.wav", b"audio")}


@pytest.mark.parametrize(
    ("fields", "files", "status", "code", "detail"),
    [
        ({}, {"file": ("a.wav", b"")}, 422, "empty_file", "empty"),
        ({"model": "nonesuch"}, FILE, 422, "unknown_model", "nonesuch"),
        ({"model": "file:/etc"}, FILE, 422, "unknown_model", "file:/etc"),
        ({"model": "../models/mine"}, FILE, 422, "unknown_model", "../models/mine"),
        ({"model": "starter", "language": "de"}, FILE, 422, "unsupported_language", "de"),
        ({"language": "German"}, FILE, 422, "invalid_request", "such as 'en'"),
        ({"vad": "loud"}, FILE, 422, "invalid_request", "vad"),
        ({"multichannel": "maybe"}, FILE, 422, "invalid_request", "valid boolean"),
        ({"task": "summarize"}, FILE, 422, "invalid_request", "'translate'"),
        ({"task": "translate"}, FILE, 422, "unsupported_option", "cannot translate"),
        ({"prompt": "Dr. Who"}, FILE, 422, "unsupported_option", "prompt"),
        ({"hotwords": "Tardis"}, FILE, 422, "unsupported_option", "hotwords"),
        ({"multilingual": "1"}, FILE, 422, "unsupported_option", "detect"),
        ({"prompt": "x" * 1001}, FILE, 422, "invalid_request", "1000"),
        ({"prompt": "a\0b"}, FILE, 422, "invalid_request", "NUL"),
        ({"reference": "?"}, FILE, 422, "invalid_request", "no words"),
        ({"reference": "x" * 2_000_001}, FILE, 422, "invalid_request", "2000000"),
        ({"reference": "x" * 8_000_001}, FILE, 422, "invalid_request", "8000000 bytes"),
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
        (part("model", "starter") + part("task", "translate"), "unsupported_option"),
        (part("multilingual", "on") + part("language", "en"), "unsupported_option"),
        (part("reference", "..."), "invalid_request"),
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
    body = part("file") + b"x\r\n--b--\r\n" + bytes(29 * MIB)

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


@pytest.mark.parametrize("limit", [{"idle_s": 0.5}, {"limit_s": 0.0}])
def test_a_client_that_falls_silent_or_never_ends_is_given_up_and_leaves_no_object(
    client: httpx.Client,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
    limit: dict[str, float],
) -> None:
    defaults = {**(Receiver.__init__.__kwdefaults__ or {}), **limit}
    monkeypatch.setattr(Receiver.__init__, "__kwdefaults__", defaults)
    before = stored(storage)
    with open_upload(str(client.base_url), "Content-Length: 20000000") as connection:
        connection.sendall(part("file") + bytes(PART_BYTES + MIB))
        answer = read_answer(connection)
    assert answer.startswith("408\n")
    assert "upload_stalled" in answer
    wait_until(lambda: stored(storage) == before, within_s=10)


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


def hours_of(n_segments: int) -> Transcript:
    words = [Word(text=f"word{at}", start=at * 0.3, end=at * 0.3 + 0.2) for at in range(10)]
    line = " ".join(word.text for word in words)
    segment = Segment(id=0, start=0, end=3, text=line, language="en", words=words)
    return Transcript(
        language="en",
        duration_s=4.0 * n_segments,
        speech_s=3.0 * n_segments,
        skipped_s=1.0 * n_segments,
        text=" ".join([line] * n_segments),
        segments=[
            segment.model_copy(update={"id": n, "start": 4.0 * n, "end": 4.0 * n + 3})
            for n in range(n_segments)
        ],
    )


def test_a_long_transcript_is_sent_whole_in_memory_for_a_short_one(
    settings: Settings, database: Engine, tmp_path: Path
) -> None:
    long = hours_of(3_000)
    ids = [add_job(database) for _ in range(2)]
    finish(database, ids[0])
    finish(database, ids[1], long)
    with api_process(settings, tmp_path / "api.log") as (client, pid):
        for path in ("", "/transcript"):
            client.get(f"/jobs/{ids[0]}{path}")
        before = peak_memory(pid)
        plain = client.get(f"/jobs/{ids[1]}/transcript", params={"format": "json"})
        job = client.get(f"/jobs/{ids[1]}")
        grown = peak_memory(pid) - before

    assert plain.text == long.model_dump_json(indent=2) + "\n"
    assert Transcript.model_validate(job.json()["transcript"]) == long
    assert job.json()["id"] == str(ids[1])
    assert len(plain.content) > 4 * MIB
    assert grown < 8 * MIB


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
