"""What tenants have used: counted once, whatever becomes of a job."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from harness.jobs.job_store import add_job, claim, expire, finish, new_job, prepare
from harness.jobs.tenants import add_tenant, asking
from harness.live.audio import silence
from harness.live.clients import live
from harness.programs.workers import wait_until
from harness.servers.api_server import assert_problem
from shared.infra.errors import LeaseLost, UnreadableMedia
from shared.speech.chunks.hypothesis import Hypothesis, hypothesis_to_json
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.create import create_job
from shared.store.jobs.delete import delete_job
from shared.store.jobs.retry import retry_job
from shared.store.steps import ChunkResult
from shared.store.usage import DayUsage, add_up_usage, count_live, read_usage, tenants_today
from worker.upkeep.tenants import TenantMetrics


def used(database: Engine, tenant: str = "default") -> DayUsage | None:
    today = datetime.now(UTC).date()
    days = read_usage(database, tenant, today - timedelta(days=1), today)
    return days[0] if days else None


def amounts(database: Engine) -> tuple[int, float, float]:
    found = used(database)
    assert found is not None
    return found.jobs, found.audio_s, found.model_s


TIMINGS = {"inference_s": 4.0, "batch_size": 2, "reheard_s": 0.5}


def hear(database: Engine, job_id: UUID, idx: int) -> None:
    """Transcribe a chunk of a second, in a batch of two that took 4 s, and a slice of it again."""
    heard = hypothesis_to_json(Hypothesis(words=()))
    claimed = claim(database, job_id, "transcribe", idx)
    result = ChunkResult(claimed, heard, TIMINGS, audio_s=1.0)
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


def test_what_a_worker_had_done_that_died_is_counted_once(database: Engine) -> None:
    job_id = add_job(database)
    prepare(database, job_id, 2)
    hear(database, job_id, 0)
    dead = claim(database, job_id, "transcribe", 1)
    expire(database, dead)
    assert steps.reap(database) == 1
    hear(database, job_id, 1)
    late = ChunkResult(dead, hypothesis_to_json(Hypothesis(words=())), TIMINGS, audio_s=1.0)
    assert steps.complete_chunks(database, [late], max_attempts=3), "it has lost its lease"
    died_finishing = claim(database, job_id, "finish")
    expire(database, died_finishing)
    assert steps.reap(database) == 1
    finish(database, claim(database, job_id, "finish"))
    with pytest.raises(LeaseLost):
        finish(database, died_finishing)
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


def test_prometheus_is_told_of_each_tenants_day_and_jobs(database: Engine) -> None:
    active, busy = add_tenant(database), add_tenant(database)
    for tenant in (active, active, "default"):
        create_job(database, new_job(tenant=tenant), max_attempts=3)
    job_id = add_job(database)
    prepare(database, job_id, 1)
    hear(database, job_id, 0)
    finish(database, claim(database, job_id, "finish"))
    add_up_usage(database)
    count_live(database, busy, 7.5)
    told = {
        (sample.name, sample.labels["tenant"], sample.labels.get("state")): sample.value
        for gauge in TenantMetrics(database).collect()
        for sample in gauge.samples
    }
    assert told["longhand_tenant_jobs", active, "queued"] == 2
    assert told["longhand_tenant_jobs", "default", "queued"] == 1
    assert told["longhand_tenant_jobs_ended_today", "default", None] == 1
    assert told["longhand_tenant_audio_seconds_today", "default", None] == 2.0
    assert told["longhand_tenant_model_seconds_today", "default", None] == 2.5
    assert told["longhand_tenant_live_seconds_today", busy, None] == 7.5
    assert [each.tenant for each in tenants_today(database, most=1)] == [busy]


def test_usage_is_told_by_day(database: Engine, processes: tuple[str, str]) -> None:
    tenant = add_tenant(database)
    count_live(database, tenant, 2.5)
    with asking(database, tenant, processes[0]) as (client,):
        usage = client.get("/usage").json()
        assert usage["total"] == {"jobs": 0, "audio_s": 0, "model_s": 0, "live_s": 2.5}
        assert [day["live_s"] for day in usage["days"]] == [2.5]
        wrong = client.get("/usage?from=2026-02-01&to=2026-01-01")
        assert_problem(wrong, 422, "conflicting_options")
    with asking(database, "default", processes[0]) as (another,):
        assert another.get("/usage").json()["days"] == []


def test_the_audio_of_a_live_session_is_counted_when_it_ends(
    database: Engine, processes: tuple[str, str]
) -> None:
    tenant = add_tenant(database)
    with asking(database, tenant, processes[0]) as (client,):
        headers = {"Authorization": client.headers["authorization"]}
        for _ in range(2):
            with live(client, additional_headers=headers) as talker:
                talker.start()
                talker.stream(silence(0.5), frame_bytes=16_000)
                talker.send({"type": "end_session"})
                talker.read_all()
        wait_until(lambda: client.get("/usage").json()["total"]["live_s"] == 1.0)


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
