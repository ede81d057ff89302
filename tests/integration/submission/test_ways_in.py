"""The ways in beside forms: a raw body, and JSON that names a file or carries it."""

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, text

from harness.jobs.job_store import step_ids
from harness.jobs.webhook_store import on_loopback
from harness.servers.api_server import api, assert_problem, stored
from shared.infra.settings import Settings
from shared.infra.storage import PART_BYTES, Storage
from shared.store.counts import count_jobs
from shared.store.objects.keys import source_key

MIB = 1024**2
URL = "https://files.example.com/a/talk%20one.mp3?token=hush#there"

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    limits = {"max_upload_bytes": 20 * MIB, "max_base64_bytes": MIB}
    with api(on_loopback(servers).model_copy(update=limits)) as client:
        yield client


@pytest.mark.parametrize("media_type", ["audio/mpeg", "video/mp4", "application/octet-stream"])
def test_a_raw_body_is_a_file_with_its_options_in_the_query(
    client: httpx.Client, storage: Storage, media_type: str
) -> None:
    audio = os.urandom(PART_BYTES + 99 if media_type == "audio/mpeg" else 99)
    answer = client.post(
        "/jobs",
        params={"language": "English", "metadata": '{"order": 17}', "file_name": "a b.mp3"},
        content=audio,
        headers={"Content-Type": media_type},
    )
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert job["source"] == {
        "name": "a b.mp3",
        "bytes": len(audio),
        "sha256": hashlib.sha256(audio).hexdigest(),
        "url": None,
    }
    assert (job["language"], job["metadata"]) == ("en", {"order": 17})
    assert storage.read(source_key(UUID(job["id"])), 0, len(audio) + 1) == audio


def test_a_raw_body_is_named_by_its_content_disposition(client: httpx.Client) -> None:
    headers = {
        "Content-Type": "audio/wav; rate=16000",
        "Content-Disposition": "attachment; filename=\"x.wav\"; filename*=UTF-8''f%C3%BCr.wav",
    }
    answer = client.post("/jobs", content=b"audio", headers=headers)
    assert answer.json()["source"]["name"] == "für.wav"


def test_the_same_bytes_are_the_same_file_whichever_way_they_come(client: httpx.Client) -> None:
    """Each of the later ones waits for the first, which is transcribed."""
    form = client.post("/jobs", files={"file": ("a.wav", b"audio")}).json()
    raw = client.post("/jobs", content=b"audio", headers={"Content-Type": "audio/wav"}).json()
    held = client.post("/jobs", json={"audio_base64": base64.b64encode(b"audio").decode()}).json()
    assert form["waiting_for"]["code"] == "cpu_worker"
    assert [job["waiting_for"]["code"] for job in (raw, held)] == ["equal_job", "equal_job"]


@pytest.mark.parametrize(
    ("params", "content", "media_type", "status", "code", "told"),
    [
        ({"speed": "9"}, b"x", "audio/wav", 422, "invalid_request", "'speed'"),
        ({"lang": "en"}, b"x", "audio/wav", 422, "misnamed_field", "'language'"),
        ({"vad": ["off", "off"]}, b"x", "audio/wav", 422, "invalid_request", "given twice"),
        ({"vad": "loud"}, b"x", "audio/wav", 422, "invalid_request", "vad"),
        ({"language": "Germn"}, b"x", "audio/wav", 422, "unsupported_language", "german"),
        ({}, b"", "audio/wav", 422, "empty_file", "empty"),
        ({}, bytes(20 * MIB + 1), "audio/wav", 413, "upload_too_large", "20 MiB"),
        ({}, b"x", "application/x-www-form-urlencoded", 415, "unsupported_media_type", "audio/m"),
        ({}, b"x", "", 415, "unsupported_media_type", "of no type"),
        ({"model": "starter"}, b"{}", "application/json", 422, "conflicting_options", "members"),
    ],
)
def test_a_bad_raw_body_is_refused_and_leaves_nothing(
    client: httpx.Client,
    storage: Storage,
    database: Engine,
    params: dict[str, str | list[str]],
    content: bytes,
    media_type: str,
    status: int,
    code: str,
    told: str,
) -> None:
    before = stored(storage)
    headers = {"Content-Type": media_type} if media_type else {}
    answer = client.post("/jobs", params=params, content=content, headers=headers)
    assert told in str(assert_problem(answer, status, code)["detail"])
    assert stored(storage) == before
    assert sum(count_jobs(database).by_state.values()) == 0


def test_an_audio_url_is_a_job_whose_secrets_are_not_shown(
    client: httpx.Client, database: Engine
) -> None:
    answer = client.post("/jobs", json={"audio_url": URL, "language": "en", "priority": 7})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert job["source"] == {
        "name": "talk one.mp3",
        "bytes": None,
        "sha256": None,
        "url": "https://files.example.com/a/talk%20one.mp3",
    }
    assert (job["state"], job["progress"]["stage"], job["priority"]) == ("queued", "queued", 7)
    assert job["waiting_for"]["code"] == "cpu_worker"
    assert step_ids(database, UUID(job["id"]), "fetch")
    assert not step_ids(database, UUID(job["id"]), "prepare")
    for path in ("", "/events", "?include=words"):
        if path != "/events":
            assert "hush" not in client.get(f"/jobs/{job['id']}{path}").text
    with database.begin() as connection:
        told = connection.execute(text("SELECT string_agg(e::text, '') FROM job_events e"))
        assert "hush" not in told.scalar_one()


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ({}, "invalid_request", "exactly one of audio_url"),
        ({"audio_url": URL, "audio_base64": "eA=="}, "conflicting_options", "exactly one of"),
        ({"audio_url": "ftp://example.com/a"}, "forbidden_url", "must begin with"),
        ({"audio_url": "http://10.0.0.1/a"}, "forbidden_url", "not public"),
        ({"audio_url": "http://[::1]/a"}, "forbidden_url", "not public"),
        ({"audio_url": "https://me:hush@example.com/a"}, "forbidden_url", "password"),
        ({"audio_url": "nonsense"}, "forbidden_url", "must begin with"),
        ({"audio_url": URL, "lang": "en"}, "misnamed_field", "did you mean 'language'?"),
        ({"url": URL}, "misnamed_field", "did you mean 'audio_url'?"),
        ({"audio": URL}, "misnamed_field", "did you mean 'audio_url'?"),
        ({"content": "eA=="}, "misnamed_field", "did you mean 'audio_base64'?"),
        ({"audio_url": URL, "callback_url": "x"}, "misnamed_field", "'webhook_url'"),
        ({"audio_url": URL, "speed": 9}, "invalid_request", "speed: unknown"),
        ({"audio_url": URL, "priority": "7"}, "invalid_request", "priority"),
        ({"audio_url": URL, "model": "nonesuch"}, "unknown_model", "nonesuch"),
        ({"audio_url": URL, "language": "Germn"}, "unsupported_language", "german"),
        ({"audio_url": URL, "prompt": "a\0b"}, "invalid_request", "NUL"),
        ({"audio_url": URL, "mask": "a\0b"}, "invalid_request", "NUL"),
        ({"audio_url": URL, "metadata": {"a": ["\0"]}}, "invalid_request", "NUL"),
        ({"audio_url": URL, "metadata": {"a\0": 1}}, "invalid_request", "NUL"),
        ({"audio_url": URL, "metadata": {"a": "é" * 8_192}}, "invalid_request", "16 KiB"),
        ({"audio_url": URL, "spelling": {"\0": "a"}}, "invalid_request", "NUL"),
        ({"audio_base64": "e"}, "invalid_request", "not base64"),
        ({"audio_base64": "eA==!"}, "invalid_request", "not base64"),
        ({"audio_base64": ""}, "empty_file", "empty"),
    ],
)
def test_a_bad_json_body_is_refused(
    client: httpx.Client, database: Engine, body: dict[str, object], code: str, told: str
) -> None:
    answer = client.post("/jobs", json=body)
    problem = assert_problem(answer, 422, code)
    assert told in str(problem["detail"])
    assert "hush" not in answer.text
    assert sum(count_jobs(database).by_state.values()) == 0


@pytest.mark.parametrize("number", ["NaN", "1e999", "-Infinity", "9" * 5_000])
def test_numbers_that_json_does_not_have_are_refused_in_metadata(
    client: httpx.Client, number: str
) -> None:
    job = f'{{"audio_url": "{URL}", "metadata": {{"a": {number}}}}}'
    headers = {"Content-Type": "application/json"}
    assert_problem(client.post("/jobs", content=job, headers=headers), 422, "invalid_request")
    batch = client.post("/jobs/batch", content=f'{{"jobs": [{job}]}}', headers=headers)
    assert batch.status_code in (202, 422), batch.text
    assert "invalid_request" in batch.text
    raw = {"metadata": f'{{"a": {number}}}'}
    answer = client.post("/jobs", params=raw, content=b"x", headers={"Content-Type": "audio/wav"})
    assert_problem(answer, 422, "invalid_request")


def test_metadata_of_a_json_body_may_have_as_much_as_those_of_a_form(client: httpx.Client) -> None:
    metadata = {"a": "x" * 16_376}
    answer = client.post("/jobs", json={"audio_url": URL, "metadata": metadata})
    assert answer.status_code == 202, answer.text
    assert answer.json()["metadata"] == metadata
    too_long = {"metadata": json.dumps({"a": "x" * 16_376})}  # a space more
    answer = client.post(
        "/jobs", params=too_long, content=b"x", headers={"Content-Type": "audio/wav"}
    )
    assert_problem(answer, 422, "invalid_request")


def test_a_misnamed_field_is_told_with_the_right_name(client: httpx.Client) -> None:
    answer = client.post("/jobs", json={"url": URL, "lang": "en"})
    assert assert_problem(answer, 422, "misnamed_field")["names"] == {
        "url": "audio_url",
        "lang": "language",
    }
    form = client.post("/jobs", data={"audio_url": URL}, files={"prompt": ("p.txt", b"x")})
    problem = assert_problem(form, 422, "misnamed_field")
    assert "in a JSON body" in str(problem["detail"])


def test_a_small_file_may_come_as_base64_and_no_large_one(
    client: httpx.Client, storage: Storage
) -> None:
    audio = os.urandom(MIB)
    body = {"audio_base64": base64.b64encode(audio).decode(), "file_name": "../a.wav"}
    job = client.post("/jobs", json=body).json()
    assert job["source"]["name"] == "a.wav"
    assert storage.read(source_key(UUID(job["id"])), 0, MIB + 1) == audio
    larger = {"audio_base64": base64.b64encode(audio + b"x").decode()}
    answer = client.post("/jobs", json=larger)
    told = str(assert_problem(answer, 413, "upload_too_large")["detail"])
    assert "LONGHAND_MAX_BASE64_BYTES" in told
    endless = client.post("/jobs", json={"audio_base64": "A" * 12 * MIB})
    assert_problem(endless, 413, "upload_too_large")


def test_who_waits_for_a_transcript_may_name_its_file_by_a_url(client: httpx.Client) -> None:
    answer = client.post("/transcribe?wait=0", json={"audio_url": URL})
    assert answer.status_code == 202, answer.text
    assert answer.json()["source"]["url"] == "https://files.example.com/a/talk%20one.mp3"
