"""``Idempotency-Key``: a request that is sent again makes its jobs once, whichever way it comes."""

import base64
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import Engine, text

from harness.jobs.webhook_store import on_loopback
from harness.programs.workers import wait_until
from harness.servers.api_server import api, assert_problem, open_upload, part, read_answer, stored
from shared.infra.settings import Settings
from shared.infra.storage import PART_BYTES, Storage
from shared.store import idempotency
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import ALL_SCOPES
from shared.store.counts import count_jobs
from shared.store.idempotency import Answered, Hold, expire_keys, free_key, take_key

URL = "https://files.example.com/a.mp3"
OTHER = "https://files.example.com/b.mp3"

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(on_loopback(servers)) as client:
        yield client


def n_jobs(database: Engine) -> int:
    return sum(count_jobs(database).by_state.values())


def form(client: httpx.Client, key: str, audio: bytes, **fields: str) -> httpx.Response:
    headers = {"Idempotency-Key": key}
    return client.post("/jobs", data=fields, files={"file": ("a", audio)}, headers=headers)


def raw(client: httpx.Client, key: str, audio: bytes, **fields: str) -> httpx.Response:
    headers = {"Idempotency-Key": key, "Content-Type": "audio/wav"}
    return client.post("/jobs", params=fields, content=audio, headers=headers)


def held(client: httpx.Client, key: str, audio: bytes, **fields: str) -> httpx.Response:
    said: dict[str, object] = {**fields, "audio_base64": base64.b64encode(audio).decode()}
    if "cache" in said:
        said["cache"] = said["cache"] == "true"
    return client.post("/jobs", json=said, headers={"Idempotency-Key": key})


def url(client: httpx.Client, key: str, audio: bytes, **fields: str) -> httpx.Response:
    body: dict[str, object] = {"audio_url": f"https://files.example.com/{audio.hex()}.mp3"}
    if fields:
        body["cache"] = fields["cache"] == "true"
    return client.post("/jobs", json=body, headers={"Idempotency-Key": key})


def call(client: httpx.Client, key: str, audio: bytes, **fields: str) -> httpx.Response:
    headers = {"Idempotency-Key": key, "Content-Type": "audio/wav"}
    params = {"wait": "0", **fields}
    return client.post("/transcribe", params=params, content=audio, headers=headers)


Way = Callable[..., httpx.Response]


@pytest.mark.parametrize("way", [form, raw, held, url, call])
@pytest.mark.parametrize("fields", [{}, {"cache": "false"}])
def test_the_same_request_has_the_same_answer_and_another_is_refused(
    client: httpx.Client, database: Engine, storage: Storage, way: Way, fields: dict[str, str]
) -> None:
    first = way(client, "k-1", b"audio", **fields)
    assert first.status_code == 202, first.text
    assert "idempotency-replayed" not in first.headers
    before = stored(storage)

    again = way(client, "k-1", b"audio", **fields)
    other = way(client, "k-1", b"other", **fields)

    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert again.headers["location"] == first.headers["location"]
    assert_problem(other, 422, "idempotency_key_reused")
    assert n_jobs(database) == 1
    assert stored(storage) == before
    assert way(client, "k-2", b"other", **fields).json()["id"] != first.json()["id"]


def test_the_answer_says_that_it_is_an_earlier_one_s(client: httpx.Client) -> None:
    form(client, "k", b"audio")
    again = form(client, "k", b"audio")
    assert again.headers["idempotency-replayed"] == "true"


def test_one_file_and_its_options_are_the_same_however_they_are_sent(
    client: httpx.Client, database: Engine
) -> None:
    first = form(client, "k", b"audio", language="en").json()["id"]
    assert raw(client, '"k"', b"audio", language="English").json()["id"] == first
    assert held(client, "k", b"audio", language="en").json()["id"] == first
    assert_problem(raw(client, "k", b"audio", language="de"), 422, "idempotency_key_reused")
    assert_problem(call(client, "k", b"audio", language="en"), 422, "idempotency_key_reused")
    assert n_jobs(database) == 1


def test_a_large_file_is_compared_and_not_stored_again(
    client: httpx.Client, storage: Storage
) -> None:
    audio = os.urandom(PART_BYTES + 99)
    first = raw(client, "k", audio).json()["id"]
    before = stored(storage)
    assert raw(client, "k", audio).json()["id"] == first
    assert_problem(raw(client, "k", audio + b"x"), 422, "idempotency_key_reused")
    assert stored(storage) == before


def test_fifty_at_once_make_one_job(client: httpx.Client, database: Engine) -> None:
    together = threading.Barrier(50)
    base = str(client.base_url)

    def post(_: int) -> httpx.Response:
        with httpx.Client(base_url=base, timeout=60) as own:
            together.wait(60)
            return url(own, "k", b"audio", cache="false")

    with ThreadPoolExecutor(50) as clients:
        answers = [*clients.map(post, range(50))]

    taken = [each for each in answers if each.status_code == 202]
    assert len({each.json()["id"] for each in taken}) == 1
    assert n_jobs(database) == 1
    for refused in (each for each in answers if each.status_code != 202):
        assert_problem(refused, 409, "idempotency_key_in_use")
        assert int(refused.headers["retry-after"]) > 0


def test_a_request_under_way_is_told_before_the_next_one_s_file_is_read(
    client: httpx.Client, database: Engine
) -> None:
    head = "Content-Length: 9000000\r\nIdempotency-Key: k"
    with open_upload(str(client.base_url), head) as first:
        first.sendall(part("file") + b"audio")
        wait_until(lambda: is_in_use(database))
        with open_upload(str(client.base_url), head) as second:
            second.sendall(part("file"))
            answer = read_answer(second)
    assert answer.startswith("409\n")
    assert "retry-after: 2" in answer
    # The client that has left frees the key.
    assert wait_until(lambda: form(client, "k", b"audio").status_code == 202)


def is_in_use(database: Engine) -> bool:
    with database.begin() as connection:
        found = connection.execute(text("SELECT FROM idempotency_keys WHERE answer IS NULL"))
        return found.first() is not None


def test_a_refused_request_may_be_put_right_under_its_key(client: httpx.Client) -> None:
    assert_problem(raw(client, "k", b""), 422, "empty_file")
    assert_problem(form(client, "k", b"audio", vad="loud"), 422, "invalid_request")
    assert form(client, "k", b"audio").status_code == 202


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "a\tb"])
def test_a_key_of_no_use_is_refused(client: httpx.Client, key: str) -> None:
    assert_problem(raw(client, key, b"audio"), 422, "invalid_request")


def test_a_key_outlives_the_process_that_took_it(settings: Settings, database: Engine) -> None:
    with api(settings) as client:
        first = raw(client, "k", b"audio").json()["id"]
    with api(settings) as client:
        assert raw(client, "k", b"audio").json()["id"] == first
    assert n_jobs(database) == 1


def test_tenants_have_keys_of_their_own(settings: Settings, database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO tenants (id, name) VALUES ('other', 'other')"))
    ids = []
    with api(settings.model_copy(update={"auth": "on"})) as client:
        for tenant in ("default", "other"):
            _, secret = create_key(database, tenant, "of the test", ALL_SCOPES)
            client.headers["X-API-Key"] = secret
            ids.append(raw(client, "k", b"audio").json()["id"])
            assert raw(client, "k", b"audio").json()["id"] == ids[-1]
    assert len(set(ids)) == 2


def test_a_key_whose_process_died_is_free_once_nobody_renews_it(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "HOLD_S", 0.0)
    dead = take_key(database, "default", "k")
    assert isinstance(dead, Hold)
    wait_until(lambda: isinstance(take_key(database, "default", "k"), Hold))
    free_key(database, dead)  # it wakes: the key is another's
    with database.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM idempotency_keys")).scalar_one() == 1


def test_a_key_is_forgotten_after_a_day(client: httpx.Client, database: Engine) -> None:
    first = raw(client, "k", b"audio").json()["id"]
    assert isinstance(take_key(database, "default", "k"), Answered)
    assert expire_keys(database, limit=10) == 0
    age(database)
    assert raw(client, "k", b"other").json()["id"] != first
    age(database)
    assert expire_keys(database, limit=10) == 1


def age(database: Engine) -> None:
    """Let a day go by."""
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE idempotency_keys SET created_at = created_at - interval '1 day',
                                            held_until = held_until - interval '1 day'
            """)
        )
