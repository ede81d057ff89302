"""Limits of tenants and of the platform, and the usage that they count; on real servers."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from apiserver import Relay, api, assert_problem, relayed
from jobstore import add_job, claim, finish, new_job, prepare
from processes import wait_until
from registry import enter_worker
from sqlalchemy import Engine, text
from streams import events_of

from api.limits.requests import RequestCounter
from shared.infra.errors import TooManyJobs, UnreadableMedia
from shared.infra.settings import Settings
from shared.speech.chunks import Hypothesis, hypothesis_to_json
from shared.store import steps
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import ALL_SCOPES
from shared.store.accounts.tenants import create_tenant
from shared.store.counts import measure_backlog
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.create import create_job
from shared.store.jobs.delete import delete_job
from shared.store.jobs.retry import retry_job
from shared.store.limits import Limits, read_limits, set_limits
from shared.store.steps import ChunkResult
from shared.store.usage import DayUsage, add_up_usage, count_live, read_usage

MANY_S = 86_400 * 365
FILE = {"file": ("a.wav", b"RIFF")}


@contextmanager
def asked_by(settings: Settings, database: Engine, tenant: str) -> Iterator[httpx.Client]:
    """Serve the API to a client that has a tenant's key."""
    _, key = create_key(database, tenant, "a test's", ALL_SCOPES)
    with api(settings.model_copy(update={"auth": "on"})) as client:
        client.headers["Authorization"] = f"Bearer {key}"
        yield client


def add_tenant(database: Engine, tenant: str, **own: float) -> None:
    create_tenant(database, tenant, tenant)
    set_limits(database, tenant, own)


def used(database: Engine, tenant: str = "default") -> DayUsage | None:
    today = datetime.now(UTC).date()
    days = read_usage(database, tenant, today - timedelta(days=1), today)
    return days[0] if days else None


def amounts(database: Engine) -> tuple[int, float, float]:
    found = used(database)
    assert found is not None
    return found.jobs, found.audio_s, found.model_s


def test_no_two_jobs_get_the_last_free_place(database: Engine) -> None:
    limits = Limits(max_jobs=5)

    def create(_: int) -> bool:
        try:
            create_job(database, new_job(tenant="a"), max_attempts=1, limits=limits)
        except TooManyJobs:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(create, range(24))) == 5
    create_job(database, new_job(tenant="b"), max_attempts=1, limits=limits)


def test_a_retry_needs_a_place_as_a_new_job_does(database: Engine) -> None:
    job_id = add_job(database)
    cancel_job(database, "default", job_id, max_attempts=1)
    add_job(database)
    with pytest.raises(TooManyJobs):
        retry_job(database, "default", job_id, max_attempts=1, limits=Limits(max_jobs=1))
    retry_job(database, "default", job_id, max_attempts=1, limits=Limits(max_jobs=2))


def hear(database: Engine, job_id: UUID, idx: int) -> None:
    """Transcribe a chunk of a second, in a batch of two that took 4 s, and a slice of it again."""
    timings = {"inference_s": 4.0, "batch_size": 2, "reheard_s": 0.5}
    heard = hypothesis_to_json(Hypothesis(words=()))
    claimed = claim(database, job_id, "transcribe", idx)
    result = ChunkResult(claimed, heard, timings, audio_s=1.0)
    assert not steps.complete_chunks(database, [result], max_attempts=3)


def test_a_job_is_counted_once_however_often_it_ends(database: Engine) -> None:
    job_id = add_job(database)
    prepare(database, job_id, 2)
    hear(database, job_id, 0)
    steps.fail(database, claim(database, job_id, "transcribe", 1), UnreadableMedia("no"))
    assert amounts(database) == (1, 1.0, 2.5)
    retry_job(database, "default", job_id, max_attempts=2)
    cancel_job(database, "default", job_id, max_attempts=2)
    assert amounts(database) == (1, 1.0, 2.5), "this run has done nothing"
    retry_job(database, "default", job_id, max_attempts=2)
    hear(database, job_id, 1)
    finish(database, claim(database, job_id, "finish"))
    assert amounts(database) == (1, 2.0, 5.0)
    delete_job(database, "default", job_id, max_attempts=2)
    assert amounts(database) == (1, 2.0, 5.0)


def test_a_transcript_that_an_equal_job_shares_costs_nothing(database: Engine) -> None:
    jobs = [new_job(fingerprint="f") for _ in range(3)]
    for job in jobs[:2]:
        create_job(database, job, max_attempts=3)
    first = jobs[0].id
    prepare(database, first, 1)
    hear(database, first, 0)
    finish(database, claim(database, first, "finish"))
    assert create_job(database, jobs[2], max_attempts=3).cached
    assert amounts(database) == (3, 2.0, 2.5)


def test_what_a_deleted_job_has_used_is_counted(database: Engine) -> None:
    job_id = add_job(database)
    prepare(database, job_id, 2)
    hear(database, job_id, 0)
    delete_job(database, "default", job_id, max_attempts=2)
    assert amounts(database) == (1, 1.0, 2.5)


def test_adding_up_while_jobs_end_changes_no_sum(database: Engine) -> None:
    with ThreadPoolExecutor(4) as threads:
        for number in range(40):
            threads.submit(count_live, database, f"t{number % 2}", 1.5)
            threads.submit(add_up_usage, database)
    add_up_usage(database)
    for tenant in "t0", "t1":
        found = used(database, tenant)
        assert found is not None
        assert found.live_s == pytest.approx(30.0)
    with database.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM usage_entries")).scalar_one() == 0
        assert connection.execute(text("SELECT count(*) FROM usage")).scalar_one() == 2


def test_the_backlog_has_a_wait_once_workers_have_ended_jobs(database: Engine) -> None:
    add_job(database)
    assert measure_backlog(database, live_s=MANY_S).wait_s is None
    for _ in range(10):
        cancel_job(database, "default", add_job(database), max_attempts=1)
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE jobs SET state = 'succeeded', started_at = now() - interval '20 s'
                WHERE state = 'canceled'
            """)
        )
    assert measure_backlog(database, live_s=MANY_S).wait_s is None, "nobody is there"
    enter_worker(database, model="oracle")
    backlog = measure_backlog(database, live_s=MANY_S)
    assert backlog.jobs == 1
    assert backlog.wait_s == pytest.approx(2.0, rel=0.5)


def test_each_limit_of_a_tenant_is_told_as_a_problem(settings: Settings, database: Engine) -> None:
    add_tenant(database, "small", max_jobs=1, max_upload_bytes=100, max_streams=1)
    with asked_by(settings, database, "small") as client:
        job = client.post("/jobs", files=FILE)
        assert job.status_code == 202, job.text
        assert job.headers["ratelimit-policy"] == '"requests";q=60000;w=60'
        refused = client.post("/jobs", files={"file": ("b.wav", b"RIFF2")})
        assert_problem(refused, 429, "too_many_jobs")
        assert int(refused.headers["retry-after"]) > 0
        large = client.post("/jobs", files={"file": ("b.wav", bytes(101))})
        assert_problem(large, 413, "upload_too_large")
        job_id = UUID(job.json()["id"])
        with events_of(client, job_id):
            assert_problem(client.get(f"/jobs/{job_id}?wait=5"), 429, "too_many_at_once")
        count_live(database, "small", 2.5)
        usage = client.get("/usage").json()
        assert usage["total"] == {"jobs": 0, "audio_s": 0, "model_s": 0, "live_s": 2.5}
        assert [day["live_s"] for day in usage["days"]] == [2.5]
        wrong = client.get("/usage?from=2026-02-01&to=2026-01-01")
        assert_problem(wrong, 422, "conflicting_options")
        set_limits(database, "small", {"audio_hours_per_day": 1 / 3600})
        with database.begin() as connection:
            connection.execute(text("UPDATE jobs SET duration_s = 1"))

        def no_audio_left() -> bool:
            answer = client.post("/jobs", files={"file": ("b.wav", b"RIFF2")})
            return answer.status_code == 429 and answer.json()["code"] == "too_much_audio"

        wait_until(no_audio_left)  # the process reads limits every few seconds
    assert read_limits(database, "small") == {"audio_hours_per_day": 1 / 3600}


def test_past_the_requests_of_a_minute_a_tenant_is_told_when_to_come_back(
    settings: Settings, database: Engine
) -> None:
    tenant = uuid4().hex
    add_tenant(database, tenant, requests_per_minute=2)
    with (
        asked_by(settings, database, tenant) as client,
        asked_by(settings, database, tenant) as beside,
    ):
        answers = [each.get("/jobs") for each in (client, beside, client, beside, client)]
        # A new minute may have begun once.
        limited = next(answer for answer in answers if answer.status_code != 200)
        assert_problem(limited, 429, "rate_limited")
        assert 0 < int(limited.headers["retry-after"]) <= 60
        assert limited.headers["ratelimit"].startswith('"requests";r=0;t=')
        assert client.get("/health/live").status_code == 200


def test_past_the_queue_of_the_platform_jobs_are_refused(
    settings: Settings, database: Engine
) -> None:
    add_job(database)
    full = settings.model_copy(update={"max_queued_jobs": 1})
    with asked_by(full, database, "default") as client:
        answer = client.post("/jobs", files=FILE)
        assert_problem(answer, 503, "queue_full")
        assert int(answer.headers["retry-after"]) > 0
        backlog = client.get("/health/status").json()["backlog"]
        assert backlog == {"jobs": 1, "wait_s": None}


def test_without_redis_each_process_counts_alone_and_no_request_waits_long(
    settings: Settings,
) -> None:
    tenant = uuid4().hex

    async def scenario(url: str, relay: Relay) -> None:
        counter = RequestCounter(url, clock=lambda: 30.0)
        assert (await counter.count(tenant, 2)).remaining == 1
        relay.mute()
        began = asyncio.get_running_loop().time()
        exceeded = [(await counter.count(tenant, 2)).is_exceeded for _ in range(20)]
        assert exceeded[0] is False
        assert exceeded[2:] == [True] * 18
        assert asyncio.get_running_loop().time() - began < 2, "Redis is asked once, for 0.25 s"
        await counter.close()

    with relayed(settings, "broker_url") as (cut_off, relay):
        asyncio.run(scenario(cut_off.broker_url.get_secret_value(), relay))
