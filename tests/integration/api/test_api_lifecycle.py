"""Jobs retried and deleted over real sockets, what is past its time, and who works at what."""

from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine

from harness.jobs.equal import compute
from harness.jobs.job_store import add_job, claim, claim_step, prepare, step_ids, transcribe
from harness.jobs.removals import pending, remove_all
from harness.programs.workers import wait_until
from harness.servers.api_server import api, assert_problem, relayed, stored
from shared.infra.errors import EngineFailed
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.store import steps
from shared.store.counts import count_jobs
from shared.store.objects.keys import job_prefix, source_key
from shared.store.queues import CPU_QUEUE
from shared.store.retention import expire_audio, expire_transcripts
from shared.store.states import JobState
from shared.store.workers import WorkerEntry, announce, child_id

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client


def submit(client: httpx.Client) -> UUID:
    answer = client.post("/jobs", files={"file": ("a.wav", b"audio")})
    assert answer.status_code == 202, answer.text
    return UUID(answer.json()["id"])


def fail(database: Engine, job_id: UUID) -> None:
    steps.fail(database, claim(database, job_id, "prepare"), EngineFailed("it broke down"))


UNKNOWN = ["01890000-0000-7000-8000-000000000000", "x", "%00"]


@pytest.mark.parametrize("job_id", UNKNOWN)
def test_an_unknown_job_is_neither_retried_nor_deleted(client: httpx.Client, job_id: str) -> None:
    assert_problem(client.post(f"/jobs/{job_id}/retry"), 404, "job_not_found")
    assert_problem(client.delete(f"/jobs/{job_id}"), 404, "job_not_found")


def test_a_foreign_job_is_as_unknown_as_any(client: httpx.Client, database: Engine) -> None:
    foreign = add_job(database, tenant="them")
    fail(database, foreign)
    assert_problem(client.post(f"/jobs/{foreign}/retry"), 404, "job_not_found")
    assert_problem(client.delete(f"/jobs/{foreign}"), 404, "job_not_found")
    assert count_jobs(database).by_state["failed"] == 1


@pytest.mark.parametrize("how", ["failed", "canceled"])
def test_a_job_that_failed_or_was_canceled_is_retried_and_says_so(
    client: httpx.Client, database: Engine, how: str
) -> None:
    job_id = submit(client)
    assert_problem(client.post(f"/jobs/{job_id}/retry"), 409, "job_not_retryable")
    if how == "failed":
        fail(database, job_id)
    else:
        assert client.post(f"/jobs/{job_id}/cancel").json()["state"] == "canceled"
    assert client.get(f"/jobs/{job_id}").json()["run"] == 1

    answer = client.post(f"/jobs/{job_id}/retry")

    assert answer.status_code == 202
    job = answer.json()
    assert (job["state"], job["run"], job["error"], job["finished_at"]) == ("queued", 2, None, None)
    assert_problem(client.post(f"/jobs/{job_id}/retry"), 409, "job_not_retryable")
    compute(database, job_id)
    assert client.get(f"/jobs/{job_id}").json()["transcript"]["text"] == "hello there"


def test_a_job_whose_audio_is_gone_is_not_retried_and_tells_since_when(
    client: httpx.Client, database: Engine
) -> None:
    job_id = submit(client)
    fail(database, job_id)
    expire_audio(database, JobState.FAILED, keep_s=0, limit=9)
    assert_problem(client.post(f"/jobs/{job_id}/retry"), 409, "audio_gone")
    assert client.get(f"/jobs/{job_id}").json()["audio_deleted_at"] is not None


def test_the_answer_to_every_request_about_one_job_is_the_same_whole_job(
    client: httpx.Client, database: Engine
) -> None:
    submitted = client.post("/jobs", files={"file": ("a.wav", b"audio")})
    job_id, copy_id = UUID(submitted.json()["id"]), submit(client)
    assert submitted.json() == client.get(f"/jobs/{job_id}").json()
    for tried in (copy_id, job_id):
        canceled = client.post(f"/jobs/{tried}/cancel")
        assert canceled.json() == client.get(f"/jobs/{tried}").json()
        assert canceled.json()["transcript"] is None
    retried = client.post(f"/jobs/{job_id}/retry")
    assert retried.json() == client.get(f"/jobs/{job_id}").json()
    compute(database, job_id)

    # Its equal has succeeded meanwhile: it has its transcript at once.
    at_once = client.post(f"/jobs/{copy_id}/retry")
    cached = client.post("/jobs", files={"file": ("a.wav", b"audio")})

    for answer in (at_once, cached):
        assert answer.status_code == 202
        job = answer.json()
        assert (job["state"], job["transcript"]["text"]) == ("succeeded", "hello there")
        assert job == client.get(f"/jobs/{job['id']}").json()
    assert cached.headers["location"] == f"/jobs/{cached.json()['id']}"


def test_a_deleted_job_is_gone_and_so_are_its_objects(
    client: httpx.Client, database: Engine, storage: Storage
) -> None:
    job_id = submit(client)
    compute(database, job_id)
    storage.put(f"{job_prefix(job_id)}pcm/00000.s16le", b"x")

    answer = client.delete(f"/jobs/{job_id}")

    assert (answer.status_code, answer.content) == (204, b"")
    for path in ("", "/transcript", "/events"):
        assert_problem(client.get(f"/jobs/{job_id}{path}"), 404, "job_not_found")
    assert_problem(client.delete(f"/jobs/{job_id}"), 404, "job_not_found")
    assert client.get("/jobs").json()["jobs"] == []
    wait_until(lambda: not any(str(job_id) in key for key in stored(storage)))


def test_a_job_is_deleted_while_the_store_is_away_and_its_objects_go_later(
    settings: Settings, database: Engine, storage: Storage
) -> None:
    with relayed(settings, "storage_url") as (cut_off, relay), api(cut_off) as client:
        job_id = submit(client)
        relay.cut()
        assert client.delete(f"/jobs/{job_id}").status_code == 204
        assert_problem(client.get(f"/jobs/{job_id}"), 404, "job_not_found")
    assert source_key(job_id) in stored(storage)
    remove_all(database, storage)
    assert source_key(job_id) not in stored(storage)


def test_a_deletion_that_the_database_does_not_live_to_see_deletes_nothing(
    settings: Settings, database: Engine, storage: Storage
) -> None:
    with relayed(settings, "database_url") as (cut_off, relay), api(cut_off) as client:
        job_id = submit(client)
        wait_until(lambda: step_ids(database, job_id, "prepare"))
        client.get("/jobs")
        relay.lose_answer(b"DELETE FROM jobs")
        assert_problem(client.delete(f"/jobs/{job_id}"), 503, "database_unavailable")
    assert pending(database) == []
    assert source_key(job_id) in stored(storage)
    assert claim(database, job_id, "prepare")


def test_a_deletion_whose_answer_is_lost_was_made_whole(
    settings: Settings, database: Engine, storage: Storage
) -> None:
    with relayed(settings, "database_url") as (cut_off, relay), api(cut_off) as client:
        job_id = submit(client)
        client.get("/jobs")
        relay.lose_answer(b"DELETE FROM jobs", b"COMMIT")
        answer = client.delete(f"/jobs/{job_id}")
        assert answer.status_code == 503
        assert_problem(client.delete(f"/jobs/{job_id}"), 404, "job_not_found")
    assert pending(database) == [job_prefix(job_id)]
    remove_all(database, storage)
    assert source_key(job_id) not in stored(storage)


def test_an_expired_transcript_is_gone_and_the_job_tells_since_when(
    client: httpx.Client, database: Engine
) -> None:
    job_id = submit(client)
    compute(database, job_id)
    expire_transcripts(database, keep_s=0, limit=9)
    job = client.get(f"/jobs/{job_id}").json()
    assert (job["state"], job["transcript"]) == ("succeeded", None)
    assert job["transcript_deleted_at"] is not None
    for query in ("", "?partial=true", "?format=srt"):
        answer = client.get(f"/jobs/{job_id}/transcript{query}")
        assert_problem(answer, 410, "transcript_deleted")
    reference = client.post(f"/jobs/{job_id}/reference", json={"reference": "hello"})
    assert_problem(reference, 410, "transcript_deleted")


# --- who works at what ---

WORKER = WorkerEntry(
    id="cpu@host-1-ab",
    role="cpu",
    model=None,
    queues=(CPU_QUEUE,),
    slots=2,
    state="ready",
    device="cpu",
    dtype=None,
    version="longhand 1",
    load_s=None,
    warm_up_s=None,
)


def take(database: Engine, job_id: UUID, kind: str, owner: str, idx: int = 0) -> None:
    step_id = step_ids(database, job_id, kind)[idx]
    assert claim_step(database, step_id, owner=owner, lease_s=30) is not None


def test_workers_tell_what_they_are_at_and_of_others_jobs_only_how_much(
    client: httpx.Client, database: Engine
) -> None:
    model = replace(
        WORKER, id="model-oracle@host-2-cd", role="model", model="oracle", dtype="float32"
    )
    for worker in (WORKER, model):
        announce(database, worker)
    ours, theirs, foreign = add_job(database), add_job(database), add_job(database, tenant="them")
    for job_id in (ours, foreign):
        prepare(database, job_id, chunks=3)
    take(database, theirs, "prepare", child_id(WORKER.id, "77:ef"))
    take(database, ours, "transcribe", model.id, idx=2)
    take(database, foreign, "transcribe", model.id, idx=0)
    take(database, foreign, "transcribe", model.id, idx=1)
    transcribe(database, claim(database, ours, "transcribe", 0))

    answer = client.get("/workers")

    cpu, gpu = answer.json()["workers"]
    assert (cpu["id"], cpu["role"], cpu["slots"], cpu["state"]) == (WORKER.id, "cpu", 2, "ready")
    assert [(step["job_id"], step["kind"]) for step in cpu["steps"]] == [(str(theirs), "prepare")]
    (step,) = gpu["steps"]
    assert (step["job_id"], step["kind"], step["idx"], step["attempt"]) == (
        *(str(ours), "transcribe", 2, 1),
    )
    assert step["since"] is not None
    assert (cpu["other_steps"], gpu["other_steps"]) == (0, 2)
    assert (gpu["model"], gpu["dtype"]) == ("oracle", "float32")
    assert str(foreign) not in answer.text


def test_steps_of_jobs_that_have_ended_are_nobodys(client: httpx.Client, database: Engine) -> None:
    announce(database, WORKER)
    job_id = add_job(database)
    take(database, job_id, "prepare", WORKER.id)
    client.post(f"/jobs/{job_id}/cancel")
    (worker,) = client.get("/workers").json()["workers"]
    assert worker["steps"] == []
