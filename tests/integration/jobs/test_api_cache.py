"""The result cache over real sockets: the same audio twice, a model's work once."""

import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine

from harness.jobs.equal import compute
from harness.jobs.job_store import step_ids
from harness.programs.workers import wait_until
from harness.servers.api_server import api, stored
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.store.objects.keys import source_key

AUDIO = b"the same audio" * 1000


pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client


def submit(
    client: httpx.Client, *, audio: bytes = AUDIO, name: str = "a.wav", **fields: str
) -> dict[str, Any]:
    answer = client.post("/jobs", data=fields, files={"file": (name, audio)})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def test_the_same_audio_again_has_its_transcript_at_once(
    client: httpx.Client, database: Engine
) -> None:
    first = submit(client, language="en")
    assert (first["state"], first["cached"]) == ("queued", False)
    compute(database, UUID(first["id"]))

    second = submit(client, name="another name.mp3", language="en", vad="energy")

    assert (second["state"], second["cached"]) == ("succeeded", True)
    assert second["id"] != first["id"]
    assert second["source"]["name"] == "another name.mp3"
    assert second["transcript"]["text"] == "hello there"
    found = client.get(f"/jobs/{second['id']}").json()
    assert found == second
    assert found["progress"]["stage"] == "done"
    transcript = client.get(f"/jobs/{second['id']}/transcript", params={"format": "txt"})
    assert transcript.text.strip() == "hello there"
    listed = {job["id"]: job["cached"] for job in client.get("/jobs").json()["jobs"]}
    assert listed == {first["id"]: False, second["id"]: True}


@pytest.mark.parametrize(
    "fields",
    [
        {"language": "de"},
        {"vad": "off"},
        {"multichannel": "true"},
        {"model": "starter"},
        {"cache": "false"},
    ],
)
def test_other_options_and_an_unwanted_cache_are_computed(
    client: httpx.Client, database: Engine, fields: dict[str, str]
) -> None:
    compute(database, UUID(submit(client)["id"]))
    job = submit(client, **fields)
    assert (job["state"], job["cached"]) == ("queued", False)
    assert step_ids(database, UUID(job["id"]), "prepare")


def test_what_was_computed_without_the_cache_is_not_offered_by_it(
    client: httpx.Client, database: Engine
) -> None:
    compute(database, UUID(submit(client, cache="0")["id"]))
    assert submit(client)["state"] == "queued"


def test_other_audio_is_computed(client: httpx.Client, database: Engine) -> None:
    compute(database, UUID(submit(client)["id"]))
    assert submit(client, audio=AUDIO + b"!")["state"] == "queued"


def test_equal_uploads_at_once_are_computed_once(client: httpx.Client, database: Engine) -> None:
    jobs: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: jobs.append(submit(client))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    computed = [job for job in jobs if step_ids(database, UUID(job["id"]), "prepare")]
    assert len(computed) == 1
    compute(database, UUID(computed[0]["id"]))
    ends = [client.get(f"/jobs/{job['id']}").json() for job in jobs]
    assert {job["state"] for job in ends} == {"succeeded"}
    assert sorted(job["cached"] for job in ends) == [False, *[True] * 5]


def test_a_waiting_job_takes_the_place_of_the_one_canceled(
    client: httpx.Client, database: Engine
) -> None:
    first, second = submit(client), submit(client)
    assert second["progress"]["stage"] == "queued"
    client.post(f"/jobs/{first['id']}/cancel")
    assert step_ids(database, UUID(second["id"]), "prepare")


def test_the_file_of_a_cached_job_is_not_kept_and_that_of_its_original_is(
    client: httpx.Client, database: Engine, storage: Storage
) -> None:
    first = submit(client)
    waiting = submit(client)
    assert source_key(waiting["id"]) in stored(storage)
    compute(database, UUID(first["id"]))
    cached = submit(client)
    gone = {source_key(job["id"]) for job in (waiting, cached)}
    wait_until(lambda: not gone & stored(storage))
    assert source_key(first["id"]) in stored(storage)
    for job, given_up in ((first, False), (waiting, True), (cached, True)):
        shown = client.get(f"/jobs/{job['id']}").json()
        assert (shown["audio_deleted_at"] is not None) is given_up


def test_cached_answers_are_counted(client: httpx.Client, database: Engine) -> None:
    def counted() -> tuple[float, float]:
        lines = dict(
            line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line
        )
        return float(lines["longhand_cached_jobs_total"]), float(lines["longhand_jobs_cached"])

    at_once, _ = counted()
    first, waiting = submit(client), submit(client)
    assert waiting["state"] == "queued"
    compute(database, UUID(first["id"]))
    for _ in range(5):
        assert submit(client)["cached"]
    assert counted() == (at_once + 5, 6), "of all jobs, the one that waited counts too"
