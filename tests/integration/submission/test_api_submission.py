"""Forms over real sockets: what they may say, and every way in which they are refused."""

import hashlib
import os
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, text

from harness.servers.api_server import api, assert_problem, part, stored
from shared.infra.settings import Settings
from shared.infra.storage import PART_BYTES, Storage
from shared.models.options import JobOptions
from shared.store.counts import count_jobs
from shared.store.objects.keys import source_key

MIB = 1024**2

pytestmark = pytest.mark.usefixtures("database")

FILE = {"file": ("a.wav", b"audio")}


def test_an_accepted_job_is_committed_and_its_file_stored(
    client: httpx.Client, storage: Storage
) -> None:
    audio = os.urandom(PART_BYTES + 12_345)

    answer = client.post(
        "/jobs", data={"language": "English", "vad": "energy"}, files={"file": ("a b.wav", audio)}
    )

    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/jobs/{job['id']}" == job["links"]["self"]
    assert UUID(job["id"]).version == 7
    assert job["source"] == {
        "name": "a b.wav",
        "bytes": len(audio),
        "sha256": hashlib.sha256(audio).hexdigest(),
        "url": None,
    }
    assert (job["state"], job["model"], job["language"]) == ("queued", "oracle", "en")
    assert job["progress"]["stage"] == "queued"
    assert job["transcript"] is None
    assert client.get(answer.headers["location"]).json() == job
    assert storage.read(source_key(job["id"]), 0, len(audio) + 1) == audio


def test_fields_may_follow_the_file_and_be_empty(client: httpx.Client) -> None:
    body = part("file") + b"x\r\n" + part("model", "starter") + part("language", "") + b"--b--\r\n"
    answer = client.post(
        "/jobs", content=body, headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert answer.status_code == 202, answer.text
    assert (answer.json()["model"], answer.json()["language"]) == ("starter", "en")


def test_a_text_may_come_from_a_file_as_well(client: httpx.Client) -> None:
    said = {"prompt": ("prompt.txt", b"Dr. Who says"), **FILE}
    answer = client.post("/jobs", data={"model": "whisper-tiny"}, files=said)
    assert answer.status_code == 202, answer.text
    assert answer.json()["prompt"] == "Dr. Who says"


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
        "priority": "-7",
    }
    answer = client.post("/jobs", data=chosen, files={"file": ("a.wav", b"audio")})
    assert answer.status_code == 202, answer.text
    shown = client.get(answer.headers["location"]).json()
    same = ("model", "language", "task", "prompt", "hotwords", "vad")
    assert {name: shown[name] for name in same} == {name: chosen[name] for name in same}
    assert (shown["multichannel"], shown["multilingual"], shown["cached"]) == (True, False, False)
    assert shown["priority"] == -7
    assert shown["detected_language"] is None


@pytest.mark.parametrize(
    ("fields", "priority"), [({"priority": "100"}, 100), ({"priority": "-100"}, -100), ({}, 0)]
)
def test_steps_of_a_job_are_ranked_by_its_priority(
    client: httpx.Client, database: Engine, fields: dict[str, str], priority: int
) -> None:
    answer = client.post("/jobs", data=fields, files=FILE)
    assert answer.status_code == 202, answer.text
    assert answer.json()["priority"] == priority
    with database.begin() as connection:
        ranks = connection.execute(
            text("SELECT rank FROM steps WHERE job_id = :id"), {"id": answer.json()["id"]}
        )
        assert ranks.scalars().all() == [-priority]


def test_jobs_are_equal_whatever_their_priorities(client: httpx.Client, database: Engine) -> None:
    original, other = (
        client.post("/jobs", data={"priority": priority}, files=FILE).json()
        for priority in ("1", "2")
    )
    with database.begin() as connection:
        found = connection.execute(
            text("SELECT original_id FROM jobs WHERE id = :id"), {"id": other["id"]}
        )
        assert str(found.scalar_one()) == original["id"]
    assert other["priority"] == 2


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


@pytest.mark.parametrize(
    ("fields", "files", "status", "code", "detail"),
    [
        ({}, {"file": ("a.wav", b"")}, 422, "empty_file", "empty"),
        ({"model": "nonesuch"}, FILE, 422, "unknown_model", "nonesuch"),
        ({"model": "file:/etc"}, FILE, 422, "unknown_model", "file:/etc"),
        ({"model": "../models/mine"}, FILE, 422, "unknown_model", "../models/mine"),
        ({"model": "starter", "language": "de"}, FILE, 422, "unsupported_language", "de"),
        ({"language": "Germn"}, FILE, 422, "unsupported_language", "did you mean 'german'?"),
        ({"vad": "loud"}, FILE, 422, "invalid_request", "vad"),
        ({"multichannel": "maybe"}, FILE, 422, "invalid_request", "valid boolean"),
        ({"task": "summarize"}, FILE, 422, "invalid_request", "'translate'"),
        ({"model": "oracle", "task": "translate"}, FILE, 422, "unsupported_option", "cannot"),
        ({"model": "oracle", "prompt": "Dr. Who"}, FILE, 422, "unsupported_option", "prompt"),
        ({"model": "oracle", "hotwords": "Tardis"}, FILE, 422, "unsupported_option", "hotwords"),
        ({"model": "oracle", "multilingual": "1"}, FILE, 422, "unsupported_option", "detect"),
        ({"priority": "101"}, FILE, 422, "invalid_request", "priority: Input should be less than"),
        ({"priority": "-101"}, FILE, 422, "invalid_request", "greater than or equal to -100"),
        (
            {"priority": "high"},
            FILE,
            422,
            "invalid_request",
            "priority: Input should be a valid int",
        ),
        ({"urgency": "1"}, FILE, 422, "misnamed_field", "did you mean 'priority'?"),
        ({"prompt": "x" * 1001}, FILE, 422, "invalid_request", "1,000 characters"),
        ({"prompt": "a\0b"}, FILE, 422, "invalid_request", "NUL"),
        ({"reference": "?"}, FILE, 422, "empty_reference", "no words"),
        ({"reference": "x" * 2_000_001}, FILE, 422, "invalid_request", "2,000,000 characters"),
        ({"reference": "x" * 8_000_001}, FILE, 422, "invalid_request", "7.6 MiB"),
        ({"speed": "9", "tone": "x"}, FILE, 422, "invalid_request", "'speed', 'tone'"),
        ({"model": ["starter", "oracle"]}, FILE, 422, "invalid_request", "'model'"),
        ({"model": "x" * 5000}, FILE, 422, "invalid_request", "'model'"),
        ({}, {"audio": ("a.wav", b"x"), **FILE}, 422, "misnamed_field", "'audio'"),
        (
            {},
            {"file": ("a.wav", bytes(20 * MIB + 1))},
            *(413, "upload_too_large"),
            "the file is larger than 20 MiB (LONGHAND_MAX_UPLOAD_BYTES, or your own limit)",
        ),
        ({"model": "starter"}, {"other": b""}, 422, "misnamed_field", "as 'other': send it as"),
        ({"lang": "en", "x": "1"}, FILE, 422, "misnamed_field", "'lang' (did you mean 'language'"),
        (
            {"audio": "a.wav"},
            {"model": b""},
            422,
            "misnamed_field",
            "'audio' (did you mean 'file'",
        ),
        ({"callback_url": "x"}, FILE, 422, "misnamed_field", "did you mean 'webhook_url'?"),
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
    assert sum(count_jobs(database).by_state.values()) == 0
