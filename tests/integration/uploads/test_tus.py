"""tus 1.0: an upload goes on where it was cut off."""

import base64
import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from api import resources
from api.intake.admission import Admission
from api.intake.bodies import read_upload
from api.uploads.transfers import Transfers
from harness.clients.tus import OFFSET_STREAM, RESUMABLE, TusUpload, begin, metadata
from harness.programs.workers import wait_until
from harness.servers.api_server import api, api_process, assert_problem, peak_memory, read_answer
from shared.infra.settings import Settings
from shared.infra.storage import PART_BYTES, Storage
from shared.store.objects.keys import tail_key, upload_key
from shared.store.uploads import get_upload

MIB = 1024**2

pytestmark = pytest.mark.usefixtures("database")


def stored_file(storage: Storage, upload: TusUpload, n_bytes: int) -> bytes:
    return storage.read(upload_key(upload.id), 0, n_bytes + 1)


@pytest.fixture
def not_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is read from the store for its SHA-256, which is known once all of it has come."""

    def verify(*_: object) -> None:
        raise AssertionError("the digest is known")

    monkeypatch.setattr(Transfers, "verify", verify)


@pytest.mark.usefixtures("not_read_back")
def test_an_upload_in_pieces_of_any_length_is_one_file(
    client: httpx.Client, storage: Storage
) -> None:
    file = os.urandom(2 * PART_BYTES + 5)
    upload = begin(client, len(file), filename="../a talk.mp3")
    cuts = [0, 5, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, len(file)]
    for start, stop in pairwise(cuts):
        answer = upload.patch(client, start, file[start:stop])
        assert answer.status_code == 204, answer.text
        assert answer.headers["Upload-Offset"] == str(stop)
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert upload.offset(client) == stop
        # What is stored beside the parts is dropped once it is within one.
        assert storage.size(tail_key(upload.id, start)) is None

    assert stored_file(storage, upload, len(file)) == file
    told = client.get(f"/uploads/{upload.id}").json()
    assert (told["state"], told["name"], told["offset"]) == ("complete", "a talk.mp3", len(file))
    assert told["sha256"] == hashlib.sha256(file).hexdigest()


def begin_direct(client: httpx.Client) -> str:
    return str(client.post("/uploads", json={"bytes": 3}).json()["id"])


def cut_off(client: httpx.Client, upload: TusUpload, start: int, content: bytes) -> None:
    """Send some of what was announced, then break the connection."""

    def broken() -> Iterator[bytes]:
        yield content
        raise ConnectionError

    with suppress(ConnectionError):
        upload.patch(client, start, broken(), Content_Length=str(len(content) + 1))


def test_an_upload_cut_off_at_60_percent_goes_on_there_after_a_restart(
    settings: Settings, storage: Storage, tmp_path: Path
) -> None:
    file = os.urandom(3 * PART_BYTES)
    cut = len(file) * 6 // 10
    with api_process(settings, tmp_path / "first.log") as (client, _):
        digest = hashlib.sha256(file).hexdigest()
        upload = begin(client, len(file), filename="a.wav", sha256=digest)
        cut_off(client, upload, 0, file[:cut])
        wait_until(lambda: upload.offset(client) == cut, within_s=60)
    with api_process(settings, tmp_path / "second.log") as (client, _):
        assert upload.offset(client) == cut
        assert upload.patch(client, cut, file[cut:]).status_code == 204
        told = client.get(f"/uploads/{upload.id}").json()
    assert (told["state"], told["sha256"]) == ("complete", digest)
    assert stored_file(storage, upload, len(file)) == file


def test_what_a_killed_process_has_confirmed_is_not_lost(
    settings: Settings, storage: Storage, tmp_path: Path
) -> None:
    file = os.urandom(4 * PART_BYTES)
    with api_process(settings, tmp_path / "first.log") as (client, pid):
        upload = begin(client, len(file))

        def until_two_are_stored() -> Iterator[bytes]:
            yield file[: 3 * PART_BYTES + 1]
            with httpx.Client(base_url=client.base_url, timeout=60) as other:
                wait_until(lambda: upload.offset(other) >= PART_BYTES, within_s=60)
            os.kill(pid, 9)
            yield file[3 * PART_BYTES + 1 :]

        with suppress(httpx.HTTPError):
            upload.patch(client, 0, until_two_are_stored(), Content_Length=str(len(file)))
    with api_process(settings, tmp_path / "second.log") as (client, _):
        offset = upload.offset(client)
        assert offset in (PART_BYTES, 2 * PART_BYTES, 3 * PART_BYTES)
        assert upload.patch(client, offset, file[offset:]).status_code == 204
    assert stored_file(storage, upload, len(file)) == file


@pytest.mark.usefixtures("not_read_back")
def test_creation_with_upload_completes_a_file_in_one_request(client: httpx.Client) -> None:
    file = b"a short file"
    answer = client.post(
        "/uploads/tus",
        content=file,
        headers={
            **RESUMABLE,
            **OFFSET_STREAM,
            "Upload-Length": str(len(file)),
            "Upload-Metadata": metadata(filename="short.wav", filetype="audio/wav"),
        },
    )
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, str(len(file)))
    headed = client.head(answer.headers["Location"], headers=RESUMABLE)
    assert headed.headers["Upload-Length"] == headed.headers["Upload-Offset"] == str(len(file))
    assert headed.headers["Upload-Metadata"] == metadata(filename="short.wav", filetype="audio/wav")
    upload_id = answer.headers["Location"].rpartition("/")[2]
    assert client.get(f"/uploads/{upload_id}").json()["state"] == "complete"


def test_options_describe_what_is_spoken(client: httpx.Client) -> None:
    answer = client.options("/uploads/tus")
    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Extension"].split(",") == [
        *("creation", "creation-with-upload", "termination", "expiration", "checksum")
    ]
    assert answer.headers["Tus-Max-Size"] == str(200 * MIB)
    assert answer.headers["Tus-Checksum-Algorithm"] == "md5,sha1,sha256"


def test_another_version_is_refused_with_the_one_that_is_spoken(client: httpx.Client) -> None:
    upload = begin(client, 3)
    for headers in ({}, {"Tus-Resumable": "0.2.2"}):
        for answer in (
            client.post("/uploads/tus", headers={**headers, "Upload-Length": "3"}),
            client.patch(upload.location, headers={**headers, **OFFSET_STREAM}, content=b"abc"),
            client.delete(upload.location, headers=headers),
        ):
            assert_problem(answer, 412, "tus_version")
            assert answer.headers["Tus-Version"] == "1.0.0"
    assert client.head(upload.location, headers={"Tus-Resumable": "2"}).status_code == 412
    assert upload.offset(client) == 0


def test_a_patch_must_begin_where_the_upload_ends(client: httpx.Client) -> None:
    upload = begin(client, 10)
    assert upload.patch(client, 0, b"abcde").status_code == 204
    for offset in (0, 4, 6):
        assert_problem(upload.patch(client, offset, b"x"), 409, "offset_mismatch")
    assert upload.patch(client, 5, b"fghij").status_code == 204
    assert_problem(upload.patch(client, 10, b""), 409, "offset_mismatch")


def test_every_offset_that_the_document_allows_is_compared(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    parameters = document["paths"]["/uploads/tus/{upload_id}"]["patch"]["parameters"]
    (offset,) = (each["schema"] for each in parameters if each["name"] == "Upload-Offset")
    upload = begin(client, 10)

    assert_problem(upload.patch(client, offset["maximum"], b"x"), 409, "offset_mismatch")


def test_a_patch_of_another_type_or_length_is_refused(client: httpx.Client) -> None:
    upload = begin(client, 3)
    other = upload.patch(client, 0, b"abc", Content_Type="application/octet-stream")
    assert_problem(other, 415, "unsupported_media_type")
    assert_problem(upload.patch(client, 0, b"abcd"), 413, "upload_too_large")
    assert_problem(upload.patch(client, 0, iter([b"ab", b"cd"])), 413, "upload_too_large")
    nowhere = client.patch(upload.location, headers={**RESUMABLE, **OFFSET_STREAM}, content=b"a")
    assert_problem(nowhere, 422, "invalid_request")
    assert upload.offset(client) in (0, 2)  # what fitted may have come by itself
    assert_problem(client.get(f"/uploads/tus/{begin_direct(client)}"), 404, "upload_not_found")


def checksum(algorithm: str, content: bytes) -> str:
    digest = hashlib.new(algorithm, content).digest()
    return f"{algorithm} {base64.b64encode(digest).decode()}"


def test_a_patch_whose_checksum_is_wrong_is_thrown_away(
    client: httpx.Client, storage: Storage
) -> None:
    file = os.urandom(2 * PART_BYTES + 3)
    upload = begin(client, len(file))
    spoiled = bytes([file[0] ^ 1]) + file[1:]
    wrong = upload.patch(client, 0, spoiled, Upload_Checksum=checksum("sha1", file))
    assert_problem(wrong, 460, "checksum_mismatch")
    assert wrong.json()["title"] == "Checksum Mismatch"
    assert upload.offset(client) == 0
    assert upload.patch(client, 0, file[:9]).status_code == 204
    bad = upload.patch(client, 9, b"bad", Upload_Checksum=checksum("sha1", b"good"))
    assert_problem(bad, 460, "checksum_mismatch")
    assert upload.offset(client) == 9
    for no_checksum in (b"crc32 AAAAAA==", b"sha1 AAAA", b"sha1 \xc3\xa9===", b"sha1", b"\xff"):
        own = {**RESUMABLE, **OFFSET_STREAM, "Upload-Offset": "9"}
        headers = [(name.encode(), value.encode()) for name, value in own.items()]
        headers.append((b"Upload-Checksum", no_checksum))
        unknown = client.patch(upload.location, headers=headers, content=b"x")
        assert_problem(unknown, 400, "checksum_unknown")

    half = PART_BYTES + 1
    first = upload.patch(client, 9, file[9:half], Upload_Checksum=checksum("md5", file[9:half]))
    assert first.status_code == 204
    rest = upload.patch(client, half, file[half:], Upload_Checksum=checksum("sha256", file[half:]))
    assert rest.status_code == 204
    assert stored_file(storage, upload, len(file)) == file
    told = client.get(f"/uploads/{upload.id}").json()
    assert (told["state"], told["sha256"]) == ("complete", hashlib.sha256(file).hexdigest())


def test_a_file_that_is_not_the_declared_one_fails(
    client: httpx.Client, storage: Storage, database: Engine
) -> None:
    upload = begin(client, 3, sha256=hashlib.sha256(b"abc").hexdigest())
    assert_problem(upload.patch(client, 0, b"abd"), 422, "digest_mismatch")
    assert client.get(f"/uploads/{upload.id}").json()["state"] == "failed"


def test_a_new_patch_ends_the_one_before_it(client: httpx.Client, storage: Storage) -> None:
    file = os.urandom(3 * PART_BYTES)
    upload = begin(client, len(file))
    answers: list[httpx.Response] = []

    def overtaken() -> Iterator[bytes]:
        yield file[: PART_BYTES + 1]
        with httpx.Client(base_url=client.base_url, timeout=60) as other:
            offset = upload.offset(other)
            answers.append(upload.patch(other, offset, file[offset:]))
        yield file[PART_BYTES + 1 :]

    late = upload.patch(client, 0, overtaken(), Content_Length=str(len(file)))
    assert_problem(late, 409, "offset_mismatch")
    assert [answer.status_code for answer in answers] == [204]
    assert stored_file(storage, upload, len(file)) == file
    told = client.get(f"/uploads/{upload.id}").json()
    assert (told["state"], told["sha256"]) == ("complete", hashlib.sha256(file).hexdigest())


def test_an_upload_whose_parts_the_store_has_lost_begins_anew(
    client: httpx.Client, storage: Storage, database: Engine
) -> None:
    file = os.urandom(PART_BYTES + 7)
    upload = begin(client, len(file))
    assert upload.patch(client, 0, file[:-1]).status_code == 204
    lost = get_upload(database, "default", upload.id)
    storage.upload(lost.key, lost.multipart_id or "").abort()

    assert upload.offset(client) == 0
    assert upload.patch(client, 0, file).status_code == 204
    assert stored_file(storage, upload, len(file)) == file


def test_a_terminated_upload_is_gone_with_its_parts(
    client: httpx.Client, storage: Storage, database: Engine
) -> None:
    upload = begin(client, 2 * PART_BYTES)
    assert upload.patch(client, 0, bytes(PART_BYTES + 1)).status_code == 204
    before = get_upload(database, "default", upload.id)
    assert client.delete(upload.location, headers=RESUMABLE).status_code == 204

    assert client.head(upload.location, headers=RESUMABLE).status_code == 404
    assert_problem(upload.patch(client, PART_BYTES + 1, b"x"), 404, "upload_not_found")
    assert_problem(client.get(f"/uploads/{upload.id}"), 404, "upload_not_found")
    assert storage.upload(before.key, before.multipart_id or "").parts() is None
    wait_until(lambda: storage.size(tail_key(upload.id, PART_BYTES + 1)) is None, within_s=60)


def test_a_client_that_falls_silent_is_given_up_and_what_it_sent_is_kept(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = {**(read_upload.__kwdefaults__ or {}), "idle_s": 0.5}
    monkeypatch.setattr(read_upload, "__kwdefaults__", defaults)
    upload = begin(client, 100)
    headers = {**RESUMABLE, **OFFSET_STREAM, "Upload-Offset": "0", "Content-Length": "100"}
    head = [f"PATCH {upload.location} HTTP/1.1", "Host: localhost"]
    head += [f"{name}: {value}" for name, value in headers.items()]
    address = ("127.0.0.1", client.base_url.port)
    with socket.create_connection(address, timeout=60) as silent:
        # At once: a pause before the first byte would be taken for the silence.
        silent.sendall("\r\n".join([*head, "", "abc"]).encode())
        answer = read_answer(silent)
    assert answer.startswith("408")
    assert "upload_stalled" in answer
    assert upload.offset(client) == 3


def test_a_patch_takes_a_place_among_the_uploads(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "Admission", partial(Admission, max_large=0))
    with api(settings) as client:
        upload = begin(client, PART_BYTES)
        refused = upload.patch(client, 0, bytes(PART_BYTES))
        assert_problem(refused, 503, "too_many_uploads")
        assert upload.patch(client, 0, b"small").status_code == 204


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 422, "invalid_request"),
        ({"Upload-Length": "-1"}, 422, "invalid_request"),
        ({"Upload-Length": "x"}, 422, "invalid_request"),
        ({"Upload-Length": "0"}, 422, "empty_file"),
        ({"Upload-Defer-Length": "1"}, 422, "invalid_request"),
        ({"Upload-Length": str(201 * MIB)}, 413, "upload_too_large"),
        ({"Upload-Length": "1", "Upload-Metadata": "filename /w=="}, 422, "invalid_request"),
        ({"Upload-Length": "1", "Upload-Metadata": metadata(sha256="x")}, 422, "invalid_request"),
        ({"Upload-Length": "1", "Upload-Metadata": "a" * 5000}, 422, "invalid_request"),
    ],
)
def test_a_creation_that_makes_no_sense_is_refused(
    client: httpx.Client, headers: dict[str, str], status: int, code: str
) -> None:
    answer = client.post("/uploads/tus", headers={**RESUMABLE, **headers})
    assert_problem(answer, status, code)
    assert answer.headers["Tus-Resumable"] == "1.0.0"


def test_a_method_may_be_named_in_a_header(client: httpx.Client) -> None:
    upload = begin(client, 3)
    answer = client.post(
        upload.location,
        content=b"abc",
        headers={
            **RESUMABLE,
            **OFFSET_STREAM,
            "Upload-Offset": "0",
            "X-HTTP-Method-Override": "PATCH",
        },
    )
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, "3")


def test_memory_stays_flat_while_a_file_comes_in(settings: Settings, tmp_path: Path) -> None:
    with api_process(settings, tmp_path / "api.log") as (client, pid):
        small = begin(client, PART_BYTES + 1)
        assert small.patch(client, 0, bytes(PART_BYTES + 1)).status_code == 204
        before = peak_memory(pid)
        n_bytes = 160 * MIB
        upload = begin(client, n_bytes)
        answer = upload.patch(client, 0, iter([bytes(MIB)] * 160), Content_Length=str(n_bytes))
        assert answer.status_code == 204
        assert peak_memory(pid) - before < 32 * MIB
