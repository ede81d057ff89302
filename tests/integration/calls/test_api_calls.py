"""``POST /transcribe`` over real sockets, with the work done by hand."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from api.problems import RETRY_AFTER_S
from harness.clients.calls import AUDIO, Caller, active_jobs, calling
from harness.jobs.equal import compute, store
from harness.jobs.job_store import claim
from harness.jobs.webhook_store import TENANT
from harness.programs.workers import wait_until
from harness.servers.api_server import api_process, assert_problem, stored
from shared.infra.errors import ModelError, UnreadableMedia
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.store import steps
from shared.store.jobs.calls import cancel_unwanted
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.delete import delete_job
from shared.store.jobs.read import get_job
from shared.store.objects.keys import source_key

pytestmark = pytest.mark.usefixtures("database")

FILE = {"file": ("a.wav", AUDIO)}


@pytest.fixture
def caller(settings: Settings) -> Iterator[Caller]:
    with calling(settings) as caller:
        yield caller


def wanted_until(database: Engine, job_id: UUID) -> object:
    with database.begin() as connection:
        return connection.execute(
            text("SELECT wanted_until FROM calls WHERE job_id = :id"), {"id": job_id}
        ).scalar_one_or_none()


def test_a_call_is_answered_with_the_text_as_soon_as_the_job_has_succeeded(
    caller: Caller, database: Engine, settings: Settings
) -> None:
    called = caller.call()
    job_id = caller.only_job(database)
    assert not called.done()
    began = time.monotonic()
    compute(database, job_id, "Hello", 'there, "you"\n')
    answer = called.result()
    assert time.monotonic() - began < 60 < settings.call_wait_s
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert next(iter(body)) == "text"
    assert 0 < body.pop("latency_sec") < 60
    assert body == {
        "text": 'Hello there, "you"\n',
        "cache_hit": False,
        "chunks_processed": 1,
        "wer": None,
        "cer": None,
        "cache_stats": {"hits": 0, "misses": 1, "hit_rate": 0.0},
        "gpu_memory_used_mb": None,
        "job_id": str(job_id),
        "model": "oracle",
        "language": "en",
        "duration_s": 2.0,
        "warnings": [],
    }


def test_a_second_call_with_the_same_file_is_a_cache_hit(caller: Caller, database: Engine) -> None:
    first = caller.call()
    compute(database, caller.only_job(database))
    first.result()
    body = caller.call().result().json()
    assert (body["text"], body["cache_hit"], body["chunks_processed"]) == ("hello there", True, 1)
    assert body["cache_stats"] == {"hits": 1, "misses": 1, "hit_rate": 0.5}


def test_a_transcript_of_many_segments_is_whole(caller: Caller, database: Engine) -> None:
    said = [f"word{number}" for number in range(250)]
    called = caller.call()
    compute(database, caller.only_job(database), *said)
    assert called.result().json()["text"] == " ".join(said)


def test_a_reference_is_answered_with_error_rates(caller: Caller, database: Engine) -> None:
    called = caller.call(reference="Hello where?")
    compute(database, caller.only_job(database))
    body = called.result().json()
    assert (body["wer"], body["cer"]) == (0.5, 0.0909)
    again = caller.call(reference="hello there").result().json()
    assert (again["wer"], again["cer"], again["cache_hit"]) == (0.0, 0.0, True)


def test_a_call_that_joins_a_job_is_not_measured_against_the_reference_of_that(
    caller: Caller, database: Engine
) -> None:
    job = caller.client.post("/jobs", data={"reference": "hello"}, files=FILE).json()
    called = caller.call()
    assert str(caller.only_job(database)) == job["id"]
    compute(database, UUID(job["id"]))
    body = called.result().json()
    assert (body["job_id"], body["wer"], body["cache_hit"]) == (job["id"], None, True)
    assert caller.client.get(f"/jobs/{job['id']}").json()["metrics"]["accuracy"]["wer"] == 1.0


def test_a_reference_too_long_for_the_jobs_end_is_measured_for_the_answer(
    caller: Caller, database: Engine
) -> None:
    called = caller.call(reference="hello there " * 8_000)
    job_id = caller.only_job(database)
    compute(database, job_id)
    body = called.result().json()
    assert body["wer"] == 0.9999
    view = get_job(database, TENANT, job_id)
    assert view.accuracy is not None
    assert view.accuracy["wer"] == 0.9999


def test_gpu_memory_is_told_where_a_gpu_was_used(caller: Caller, database: Engine) -> None:
    called = caller.call()
    job_id = caller.only_job(database)
    compute(database, job_id, until="finish")
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE steps SET output = output || '{"device": "cuda"}',
                                 timings = '{"device_memory_bytes": 1234567890}'
                WHERE job_id = :id AND kind = 'transcribe'
            """),
            {"id": job_id},
        )
    store(database, job_id)
    assert called.result().json()["gpu_memory_used_mb"] == 1234.6
    assert caller.metric('stt_gpu_memory_used_mb{language="en"} 1234.56789')
    assert caller.call().result().json()["gpu_memory_used_mb"] is None, "a cache hit used none"


@pytest.mark.parametrize("by", ["query", "setting"])
def test_after_the_wait_the_answer_is_the_job_which_goes_on_without_its_client(
    settings: Settings, database: Engine, by: str
) -> None:
    changes = {"call_wait_s": 0.2} if by == "setting" else {}
    with calling(settings, call_grace_s=0.1, **changes) as caller:
        answer = caller.call(wait=60 if by == "setting" else 0.2).result()
        assert answer.status_code == 202
        job = answer.json()
        assert answer.headers["location"] == f"/jobs/{job['id']}"
        assert job["state"] == "queued"
        assert wanted_until(database, UUID(job["id"])) is None
        assert cancel_unwanted(database, max_attempts=3) == 0
        compute(database, UUID(job["id"]))
        found = caller.client.get(answer.headers["location"]).json()
        assert found["transcript"]["text"] == "hello there"
        assert caller.metric('stt_requests_total{language="unknown",status="accepted"} 1.0')


@pytest.mark.parametrize("wait", ["-1", "soon"])
def test_a_wait_that_is_none_is_refused(caller: Caller, wait: str) -> None:
    answer = caller.client.post("/transcribe", params={"wait": wait}, files=FILE)
    assert_problem(answer, 422, "invalid_request")


def test_a_call_that_cannot_be_watched_is_answered_with_the_job(
    settings: Settings, database: Engine
) -> None:
    with calling(settings, max_streams=1) as caller:
        first = caller.call()
        job_id = caller.only_job(database)
        second = caller.call().result()
        assert (second.status_code, second.json()["id"]) == (202, str(job_id))
        compute(database, job_id)
        assert first.result().status_code == 200


def test_calls_beyond_the_capacity_are_refused_before_their_file_is_read(
    settings: Settings, database: Engine
) -> None:
    with calling(settings, max_calls=1) as caller:
        first = caller.call()
        job_id = caller.only_job(database)
        refused = caller.client.post("/transcribe", files=FILE)
        problem = assert_problem(refused, 503, "too_many_calls")
        assert "LONGHAND_MAX_CALLS" in problem["detail"]
        assert refused.headers["retry-after"] == str(RETRY_AFTER_S)
        assert caller.metric('stt_rejected_requests_total{language="unknown"} 1.0')
        assert caller.metric('stt_requests_total{language="unknown",status="rejected"} 1.0')
        assert caller.metric("stt_active_requests 1.0")
        assert len(active_jobs(database)) == 1
        compute(database, job_id)
        assert first.result().status_code == 200
        assert caller.client.post("/transcribe", files=FILE).status_code == 200


def test_equal_calls_are_one_job_with_one_file(
    caller: Caller, database: Engine, storage: Storage
) -> None:
    before = stored(storage)
    called = [caller.call() for _ in range(5)]
    job_id = caller.only_job(database, clients=5)
    assert wait_until(lambda: stored(storage) - before == {source_key(job_id)})
    compute(database, job_id)
    bodies = [each.result().json() for each in called]
    assert {body["job_id"] for body in bodies} == {str(job_id)}
    assert {body["text"] for body in bodies} == {"hello there"}
    assert sorted(body["cache_hit"] for body in bodies) == [False, True, True, True, True]
    with database.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM jobs")).scalar_one() == 1


def test_a_call_goes_before_all_jobs_whose_clients_do_not_wait(
    caller: Caller, database: Engine
) -> None:
    for number in range(3):
        fields = {"priority": "100"}
        file = {"file": ("a.wav", AUDIO + bytes([number]))}
        assert caller.client.post("/jobs", data=fields, files=file).status_code == 202
    answer = caller.call(wait=0, priority="-100").result()
    taken = steps.claim_next(database, "cpu", owner="test", lease_s=30, limit=1)
    assert [str(each.job_id) for each in taken.claims] == [answer.json()["id"]]


def test_a_job_is_wanted_while_its_client_waits_and_canceled_after_the_grace(
    settings: Settings, database: Engine
) -> None:
    with calling(settings, call_grace_s=1.2) as caller:
        connection = caller.connect()
        job_id = caller.only_job(database)
        first = wanted_until(database, job_id)
        wait_until(lambda: wanted_until(database, job_id) != first)
        connection.close()
        wait_until(lambda: not caller.waiting())
        wait_until(lambda: cancel_unwanted(database, max_attempts=3))
        assert get_job(database, TENANT, job_id).state == "canceled"
        left = 'stt_requests_total{language="unknown",status="left"} 1.0'
        wait_until(lambda: caller.metric(left) and caller.metric("stt_active_requests 0.0"))


def test_a_client_that_comes_back_in_time_gets_the_same_job(
    caller: Caller, database: Engine
) -> None:
    leaving = caller.connect()
    job_id = caller.only_job(database)
    leaving.close()
    wait_until(lambda: not caller.waiting())
    again = caller.call()
    assert caller.only_job(database) == job_id
    compute(database, job_id)
    assert again.result().json()["job_id"] == str(job_id)


def test_one_client_of_several_may_leave(settings: Settings, database: Engine) -> None:
    with calling(settings, call_grace_s=1.2) as caller:
        staying, leaving = caller.call(), caller.connect()
        job_id = caller.only_job(database, clients=2)
        leaving.close()
        wait_until(lambda: caller.waiting() == {job_id: 1})
        seen = wanted_until(database, job_id)
        wait_until(lambda: wanted_until(database, job_id) != seen)
        compute(database, job_id)
        assert staying.result().status_code == 200


def test_a_server_that_stops_answers_its_calls_with_their_jobs(
    settings: Settings, database: Engine, tmp_path: Path
) -> None:
    with (
        api_process(settings, tmp_path / "api.log") as (client, pid),
        ThreadPoolExecutor(1) as pool,
    ):
        called = pool.submit(client.post, "/transcribe", files=FILE)
        (job_id,) = wait_until(lambda: active_jobs(database))
        wait_until(lambda: "stt_active_requests 1.0" in client.get("/metrics").text)
        os.kill(pid, signal.SIGTERM)
        answer = called.result()
    assert (answer.status_code, answer.json()["id"]) == (202, str(job_id))
    assert wanted_until(database, job_id) is None


def test_a_call_outlives_its_api_process_for_the_grace_and_is_found_by_another(
    settings: Settings, database: Engine, tmp_path: Path
) -> None:
    with (
        api_process(settings, tmp_path / "api.log") as (client, pid),
        ThreadPoolExecutor(1) as pool,
    ):
        called = pool.submit(client.post, "/transcribe", files=FILE)
        (job_id,) = wait_until(lambda: active_jobs(database))
        os.kill(pid, signal.SIGKILL)
        assert called.exception() is not None
    assert cancel_unwanted(database, max_attempts=3) == 0
    with calling(settings) as caller:
        again = caller.call()
        assert caller.only_job(database) == job_id
        compute(database, job_id)
        assert again.result().json()["job_id"] == str(job_id)


def test_audio_that_cannot_be_transcribed_is_the_clients_to_mend(
    caller: Caller, database: Engine
) -> None:
    called = caller.call()
    job_id = caller.only_job(database)
    unreadable = UnreadableMedia("no decoder understands the file")
    steps.fail(database, claim(database, job_id, "prepare"), unreadable)
    problem = assert_problem(called.result(), 422, "audio_refused")
    assert problem["detail"] == "no decoder understands the file"
    assert problem["job_id"] == str(job_id)
    assert problem["error"]["code"] == "unreadable_media"
    assert caller.metric('stt_requests_total{language="unknown",status="error"} 1.0')


def test_any_other_failure_is_ours(caller: Caller, database: Engine) -> None:
    called = caller.call()
    job_id = caller.only_job(database)
    steps.fail(database, claim(database, job_id, "prepare"), ModelError("it is broken"))
    problem = assert_problem(called.result(), 500, "job_failed")
    assert problem["error"] == {"code": "model_error", "detail": "it is broken"}


@pytest.mark.parametrize("end", [cancel_job, delete_job])
def test_a_job_that_is_canceled_or_deleted_meanwhile_is_told_as_canceled(
    caller: Caller, database: Engine, end: object
) -> None:
    called = caller.call()
    job_id = caller.only_job(database)
    assert callable(end)
    end(database, TENANT, job_id, max_attempts=3)
    problem = assert_problem(called.result(), 409, "job_canceled")
    assert problem["job_id"] == str(job_id)


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": "nonesuch"}, 422, "unknown_model"),
        ({"modle": "oracle"}, 422, "misnamed_field"),
        ({"priority": "101"}, 422, "invalid_request"),
    ],
)
def test_a_call_is_checked_as_a_job_is(
    caller: Caller, fields: dict[str, str], status: int, code: str
) -> None:
    assert_problem(caller.call(**fields).result(), status, code)


def test_metrics_of_a_call_have_its_language(caller: Caller, database: Engine) -> None:
    called = caller.call()
    compute(database, caller.only_job(database))
    called.result()
    caller.call().result()
    for line in (
        'stt_requests_total{language="en",status="success"} 2.0',
        'stt_latency_seconds_count{language="en"} 2.0',
        'stt_cache_hits_total{language="en"} 1.0',
        'stt_cache_misses_total{language="en"} 1.0',
        'stt_chunks_processed{language="en"} 1.0',
        "stt_active_requests 0.0",
    ):
        assert caller.metric(line), line
