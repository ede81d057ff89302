"""Uploads whose parts clients send to the object store themselves."""

import asyncio
import hashlib
import os
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine

from api.uploads import transfers
from api.uploads.transfers import Transfers
from api.uploads.uploads import Uploads
from harness.programs.workers import wait_until
from harness.servers.api_server import api, assert_problem
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.store.objects.keys import upload_key
from shared.store.uploads import get_upload

MIB = 1024**2

pytestmark = pytest.mark.usefixtures("database")


def begin(client: httpx.Client, n_bytes: int, **members: object) -> dict[str, Any]:
    answer = client.post("/uploads", json={"name": "a.wav", "bytes": n_bytes, **members})
    assert answer.status_code == 201, answer.text
    begun: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/uploads/{begun['id']}"
    return begun


def put(part: dict[str, Any], content: bytes) -> int:
    return httpx.put(part["url"], content=content, timeout=60).status_code


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """Files of more than 5 MiB have several parts."""
    monkeypatch.setattr(transfers, "DIRECT_PART_BYTES", 5 * MIB)
    return 5 * MIB


def test_a_small_file_is_one_put(client: httpx.Client, storage: Storage) -> None:
    file = os.urandom(MIB)
    digest = hashlib.sha256(file).hexdigest()
    begun = begin(client, len(file), sha256=digest.upper())
    assert (begun["state"], begun["parts_total"], len(begun["parts"])) == ("open", 1, 1)
    assert put(begun["parts"][0], file) == 200

    for _ in range(2):  # the answer may have been lost
        answer = client.post(f"/uploads/{begun['id']}/complete")
        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] == "complete"
    told = client.get(f"/uploads/{begun['id']}").json()
    assert (told["state"], told["sha256"], told["offset"]) == ("complete", digest, None)
    assert storage.read(upload_key(UUID(begun["id"])), 0, 2 * MIB) == file
    assert put(begun["parts"][0], file) == 404  # nobody changes it afterwards


def test_a_large_file_has_parts_that_come_in_any_order(
    client: httpx.Client, storage: Storage, small_parts: int
) -> None:
    file = os.urandom(2 * small_parts + 1)
    begun = begin(client, len(file))
    assert [part["bytes"] for part in begun["parts"]] == [small_parts, small_parts, 1]
    contents = [file[n * small_parts : (n + 1) * small_parts] for n in range(3)]
    for number in (3, 1):
        assert put(begun["parts"][number - 1], contents[number - 1]) == 200

    early = assert_problem(
        client.post(f"/uploads/{begun['id']}/complete"), 409, "upload_incomplete"
    )
    assert (early["state"], early["stored_bytes"]) == ("open", small_parts + 1)
    page = client.get(f"/uploads/{begun['id']}/parts").json()
    assert [part["stored"] for part in page["parts"]] == [True, False, True]
    two = client.get(f"/uploads/{begun['id']}/parts?first=2&count=1").json()["parts"]
    assert [part["number"] for part in two] == [2]
    assert put(two[0], contents[1]) == 200

    assert client.post(f"/uploads/{begun['id']}/complete").json()["state"] == "complete"
    assert storage.read(upload_key(UUID(begun["id"])), 0, len(file)) == file
    assert client.get(f"/uploads/{begun['id']}/parts").json()["parts"] == []


def test_the_store_takes_no_part_of_another_length(client: httpx.Client) -> None:
    begun = begin(client, 100)
    assert put(begun["parts"][0], bytes(101)) == 403
    assert put(begun["parts"][0], bytes(99)) == 403
    assert_problem(client.post(f"/uploads/{begun['id']}/complete"), 409, "upload_incomplete")


def test_a_file_that_is_not_the_declared_one_fails_and_is_removed(
    client: httpx.Client, storage: Storage
) -> None:
    begun = begin(client, 3, sha256=hashlib.sha256(b"abc").hexdigest())
    assert put(begun["parts"][0], b"abd") == 200
    for _ in range(2):
        answer = client.post(f"/uploads/{begun['id']}/complete")
        assert_problem(answer, 422, "digest_mismatch")
    assert client.get(f"/uploads/{begun['id']}").json()["state"] == "failed"


def test_parts_that_the_store_has_lost_are_sent_again(
    client: httpx.Client, storage: Storage, database: Engine
) -> None:
    begun = begin(client, 3)
    assert put(begun["parts"][0], b"abc") == 200
    before = get_upload(database, "default", UUID(begun["id"]))
    storage.upload(before.key, before.multipart_id or "").abort()

    assert_problem(client.post(f"/uploads/{begun['id']}/complete"), 409, "upload_incomplete")
    (part,) = client.get(f"/uploads/{begun['id']}/parts").json()["parts"]
    assert not part["stored"]
    assert put(part, b"abc") == 200
    assert client.post(f"/uploads/{begun['id']}/complete").json()["state"] == "complete"


def test_a_verification_that_a_process_did_not_end_is_ended_by_the_next_one_asked(
    client: httpx.Client, storage: Storage, database: Engine
) -> None:
    ids = []
    for _ in range(2):
        begun = begin(client, 3)
        assert put(begun["parts"][0], b"abc") == 200
        ids.append(begun["id"])
        died = Transfers(database, storage, keep_s=60)
        died.finish(get_upload(database, "default", UUID(begun["id"])))
    wait_until(lambda: client.get(f"/uploads/{ids[0]}").json()["state"] == "complete", within_s=60)

    async def ready() -> str | None:
        uploads = Uploads(cast(Any, None), Transfers(database, storage, keep_s=60))
        return (await uploads.ready("default", UUID(ids[1]))).sha256

    assert asyncio.run(ready()) == hashlib.sha256(b"abc").hexdigest()


def test_an_aborted_upload_is_gone_and_its_urls_are_of_no_use(
    client: httpx.Client, storage: Storage
) -> None:
    begun = begin(client, 3)
    assert put(begun["parts"][0], b"abc") == 200
    assert client.delete(f"/uploads/{begun['id']}").status_code == 204
    assert put(begun["parts"][0], b"abc") == 404
    for answer in (
        client.get(f"/uploads/{begun['id']}"),
        client.get(f"/uploads/{begun['id']}/parts"),
        client.post(f"/uploads/{begun['id']}/complete"),
        client.delete(f"/uploads/{begun['id']}"),
        client.get("/uploads/x"),
    ):
        assert_problem(answer, 404, "upload_not_found")
    assert storage.begun_uploads(upload_key(UUID(begun["id"]))) == []


@pytest.mark.parametrize(
    ("members", "status", "code"),
    [
        ({}, 422, "invalid_request"),
        ({"bytes": 0}, 422, "invalid_request"),
        ({"bytes": "1"}, 422, "invalid_request"),
        ({"bytes": 201 * MIB}, 413, "upload_too_large"),
        ({"bytes": 1, "sha256": "x"}, 422, "invalid_request"),
        ({"bytes": 1, "size": 1}, 422, "invalid_request"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(
    client: httpx.Client, members: dict[str, object], status: int, code: str
) -> None:
    assert_problem(client.post("/uploads", json=members), status, code)


def test_urls_name_the_store_as_clients_reach_it(settings: Settings) -> None:
    public = settings.model_copy(update={"storage_public_url": "https://s3.example.com"})
    with api(public) as client:
        (part,) = begin(client, 3)["parts"]
    assert (urlsplit(part["url"]).scheme, urlsplit(part["url"]).netloc) == (
        *("https", "s3.example.com"),
    )


def test_a_tenant_has_no_more_open_uploads_than_it_may(
    settings: Settings, database: Engine
) -> None:
    with api(settings.model_copy(update={"tenant_max_open_uploads": 2})) as client:
        first = begin(client, 3)
        begin(client, 3)
        for answer in (
            client.post("/uploads", json={"bytes": 3}),
            client.post("/uploads/tus", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "3"}),
        ):
            assert_problem(answer, 429, "too_many_open_uploads")
            assert answer.headers["retry-after"] == "60"
        assert put(first["parts"][0], b"abc") == 200
        assert client.post(f"/uploads/{first['id']}/complete").status_code == 200
        begin(client, 3)
