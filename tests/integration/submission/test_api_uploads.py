"""Bodies that are no form, too long, cut off or never end: refused, and nothing of them is left."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from api.intake.bodies import read_upload
from harness.programs.workers import wait_until
from harness.servers.api_server import (
    api_process,
    assert_problem,
    confined,
    open_upload,
    part,
    peak_memory,
    read_answer,
    serving,
    stored,
)
from shared.infra.settings import Settings
from shared.infra.storage import PART_BYTES, Storage

MIB = 1024**2

pytestmark = pytest.mark.usefixtures("database")


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("application/json", b"{}", 422, "invalid_request"),
        ("text/plain", b"x", 415, "unsupported_media_type"),
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
        (part("reference", "..."), "empty_reference"),
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


def test_a_slow_upload_is_listed_above_what_was_taken_meanwhile(client: httpx.Client) -> None:
    meanwhile: list[str] = []

    def slowly() -> Iterator[bytes]:
        yield part("file") + bytes(MIB)
        meanwhile.append(client.post("/jobs", files={"file": ("quick.wav", b"x")}).json()["id"])
        assert client.get("/jobs").json()["jobs"][0]["id"] == meanwhile[0]
        yield b"\r\n--b--\r\n"

    form = {"content-type": "multipart/form-data; boundary=b"}
    slow = client.post("/jobs", content=slowly(), headers=form).json()["id"]

    assert slow < meanwhile[0]  # ids tell when uploads began
    listed = [job["id"] for job in client.get("/jobs?limit=2").json()["jobs"]]
    assert listed == [slow, meanwhile[0]]


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
        raw = (bytes(MIB) for _ in range(160))
        answer = client.post("/jobs", content=raw, headers={"content-type": "audio/wav"})
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
        wait_until(lambda: stored(storage) != before, within_s=60)
    wait_until(lambda: stored(storage) == before, within_s=60)


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({"idle_s": 0.5}, "nothing was received for 0.5 seconds"),
        ({"limit_s": 0.0}, "the upload took longer than 0 seconds"),
    ],
)
def test_a_client_that_falls_silent_or_never_ends_is_given_up_and_leaves_no_object(
    client: httpx.Client,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
    limit: dict[str, float],
    told: str,
) -> None:
    defaults = {**(read_upload.__kwdefaults__ or {}), **limit}
    monkeypatch.setattr(read_upload, "__kwdefaults__", defaults)
    before = stored(storage)
    with open_upload(str(client.base_url), "Content-Length: 20000000") as connection:
        connection.sendall(part("file") + bytes(PART_BYTES + MIB))
        answer = read_answer(connection)
    assert answer.startswith("408\n")
    assert "upload_stalled" in answer
    assert told in answer
    wait_until(lambda: stored(storage) == before, within_s=60)


def test_a_server_told_to_stop_ends_uploads_without_a_trace(
    settings: Settings, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.app.CLEANUP_S", 60.0)
    before = stored(storage)
    with serving(create_app(confined(settings)), grace_s=1) as url:
        connection = open_upload(url, "Content-Length: 20000000")
        connection.sendall(part("file") + bytes(PART_BYTES + 3 * MIB))
        wait_until(lambda: stored(storage) != before, within_s=60)
    connection.close()
    assert stored(storage) == before
