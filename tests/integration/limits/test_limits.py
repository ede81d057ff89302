"""Limits of tenants and of the platform, on real servers."""

import asyncio
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import Engine, text
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api.limits import requests
from api.limits.backlog import check_backlog
from api.limits.requests import RequestCounter
from harness.clients.streams import events_of
from harness.jobs.job_store import add_job, new_job, prepare
from harness.jobs.registry import enter_worker
from harness.jobs.tenants import add_tenant, asked_by, asking
from harness.live.clients import LiveClient, live
from harness.programs.command_line import longhand
from harness.programs.workers import wait_until
from harness.servers.api_server import Relay, assert_problem, open_upload, read_answer, relayed
from shared.infra.errors import InvalidRequest, QueueFull, TooManyJobs
from shared.infra.settings import Settings
from shared.store.counts import Backlog, measure_backlog
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.create import create_job
from shared.store.jobs.retry import retry_job
from shared.store.limits import Limits, change_limits, get_limits

MANY_S = 86_400 * 365
FILE = {"file": ("a.wav", b"RIFF")}


def post(client: httpx.Client, content: bytes = b"RIFF") -> httpx.Response:
    return client.post("/jobs", files={"file": ("a.wav", content)})


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


def test_past_its_jobs_a_tenant_is_told_before_a_large_file_is_sent(
    database: Engine, processes: tuple[str, str]
) -> None:
    tenant = add_tenant(database, max_jobs=1)
    with asking(database, tenant, *processes) as (client, beside):
        assert post(client).status_code == 202
        refused = assert_problem(post(beside, b"RIFF2"), 429, "too_many_jobs")
        assert refused["detail"] == "1 of your jobs wait or run, and 1 may"
        with open_upload(processes[0], HEAD.format(client.headers["authorization"])) as upload:
            answer = read_answer(upload)
        assert answer.startswith("429")
        assert '"too_many_jobs"' in answer
        assert "retry-after: 10" in answer
        cancel_job(database, tenant, only_job(client), max_attempts=1)
        assert post(client, b"RIFF2").status_code == 202


HEAD = "Authorization: {}\r\nContent-Length: 1000000000"


def only_job(client: httpx.Client) -> UUID:
    (job,) = client.get("/jobs").json()["jobs"]
    return UUID(job["id"])


def test_past_its_audio_of_a_day_a_tenant_is_told_to_come_back_tomorrow(
    database: Engine, processes: tuple[str, str]
) -> None:
    tenant = add_tenant(database, audio_hours_per_day=1 / 3600)
    with asking(database, tenant, *processes) as (client, beside):
        job_id = UUID(post(client).json()["id"])
        prepare(database, job_id, 2)
        problem = assert_problem(answer := post(beside, b"RIFF2"), 429, "too_much_audio")
        assert "1 second" in problem["detail"], "what is under way counts as soon as it is known"
        midnight_s = 86_400 - datetime.now(UTC).timestamp() % 86_400
        assert int(answer.headers["retry-after"]) == pytest.approx(midnight_s, abs=30)
        cancel_job(database, tenant, job_id, max_attempts=1)
        assert post(beside, b"RIFF2").status_code == 202, "nothing of it was transcribed"


def test_an_upload_is_no_larger_than_its_tenant_may_send_and_never_than_the_platform_takes(
    database: Engine, processes: tuple[str, str]
) -> None:
    small, greedy = (add_tenant(database, max_upload_bytes=n) for n in (100, 10**12))
    with asking(database, small, processes[0]) as (client,):
        assert post(client, bytes(100)).status_code == 202
        assert_problem(post(client, bytes(101)), 413, "upload_too_large")
    assert Limits(max_upload_bytes=20).with_own(get_limits(database, greedy)).max_upload_bytes == 20


def test_a_tenant_has_as_many_streams_and_calls_as_it_may(
    database: Engine, processes: tuple[str, str]
) -> None:
    tenant = add_tenant(database, max_streams=1)
    with asking(database, tenant, processes[0]) as (client,):
        job_id = post(client).json()["id"]
        with events_of(client, UUID(job_id)):
            refused = client.get(f"/jobs/{job_id}?wait=5")
            problem = assert_problem(refused, 429, "too_many_at_once")
            assert problem["detail"] == "you have 1 streams, which is your limit"
            # The client may come back before the minute ends, unless that is about to end.
            assert "ratelimit" not in refused.headers or quota_of(refused)[2] <= 5
            assert_problem(client.get(f"/jobs/{job_id}/events"), 429, "too_many_at_once")
            unlimited = client.get(f"/jobs/{job_id}")
            assert unlimited.status_code == 200
            assert "ratelimit" in unlimited.headers

        def is_free() -> bool:
            return client.get(f"/jobs/{job_id}?wait=0.1").status_code == 200

        wait_until(is_free)


@pytest.mark.parametrize("path", ["/ws/stt", "/ws/transcribe"])
def test_a_tenant_has_as_many_live_sessions_as_it_may(
    path: str, database: Engine, processes: tuple[str, str]
) -> None:
    def begin(talker: LiveClient) -> None:
        if path == "/ws/stt":
            talker.send({"type": "start_session"})
        else:
            with suppress(ConnectionClosed):  # it may be refused before all is sent
                talker.send(bytes(640))
                talker.send({"type": "end"})

    tenant = add_tenant(database, max_live_sessions=1)
    with asking(database, tenant, processes[0]) as (client,):
        headers = {"Authorization": client.headers["authorization"]}
        with (
            live(client, additional_headers=headers) as first,
            live(client, path, additional_headers=headers) as second,
        ):
            assert first.start()["type"] == "session_started"
            begin(second)
            messages, code = second.read_all()
            first.send({"type": "end_session"})
            first.read_all()
        assert code == 1013
        (refused,) = messages
        assert refused["message"].rstrip(".") == "you have 1 live sessions, which is your limit"
        assert refused.get("code") == ("MAX_SESSIONS_REACHED" if path == "/ws/stt" else None)
        with live(client, path, additional_headers=headers) as third:
            begin(third)
            assert third.read()["type"] in ("session_started", "final")


def test_past_the_requests_of_a_minute_a_tenant_is_told_when_to_come_back(
    database: Engine, processes: tuple[str, str]
) -> None:
    tenant = add_tenant(database, requests_per_minute=2)
    with asking(database, tenant, *processes) as (client, beside):
        answers = [each.get("/jobs") for each in (client, beside, client, beside, client)]
        # A new minute may have begun once.
        allowed, limited = answers[0], next(each for each in answers if each.status_code != 200)
        assert quota_of(allowed) == (2, 1, pytest.approx(30, abs=30))
        assert_problem(limited, 429, "rate_limited")
        limit, left, reset_s = quota_of(limited)
        assert (limit, left) == (2, 0)
        assert int(limited.headers["retry-after"]) == reset_s > 0
        assert client.get("/health/live").status_code == 200
        headers = {"Authorization": client.headers["authorization"]}
        with (
            pytest.raises(InvalidStatus) as refused,
            live(client, additional_headers=headers),
            live(client, additional_headers=headers),
            live(client, additional_headers=headers),
        ):
            pass
    denial = refused.value.response
    assert denial.status_code == 429
    assert json.loads(denial.body or b"")["code"] == "rate_limited"
    assert denial.headers["ratelimit-policy"] == '"requests";q=2;w=60'


def quota_of(answer: httpx.Response) -> tuple[int, int, int]:
    """Return the limit, what is left of it and for how many seconds."""
    policy = re.fullmatch('"requests";q=([0-9]+);w=60', answer.headers["ratelimit-policy"])
    left = re.fullmatch('"requests";r=([0-9]+);t=([0-9]+)', answer.headers["ratelimit"])
    assert policy is not None
    assert left is not None
    return int(policy[1]), int(left[1]), int(left[2])


def test_an_administrator_sees_and_changes_limits_and_every_process_keeps_to_them_at_once(
    database: Engine, processes: tuple[str, str]
) -> None:
    tenant = add_tenant(database, max_streams=7)
    path = f"/admin/tenants/{tenant}/limits"
    with (
        asking(database, "default", processes[0]) as (admin,),
        asking(database, tenant, *processes) as (client, beside),
    ):
        shown = admin.get(path).json()
        assert {name: limit for name, limit in shown["own"].items() if limit is not None} == {
            "max_streams": 7
        }
        assert shown["in_force"]["requests_per_minute"] == 60_000
        assert shown["in_force"]["max_streams"] == 7
        assert post(client).status_code == 202
        assert post(beside, b"RIFF2").status_code == 202, "both know its limits now"
        changed = admin.patch(path, json={"max_jobs": 1, "max_streams": None}).json()
        assert changed["own"]["max_jobs"] == changed["in_force"]["max_jobs"] == 1
        assert changed["own"]["max_streams"] is None

        def kept_after_s() -> float:
            changed_at = time.monotonic()
            for each in (client, beside):
                while (answer := post(each, uuid4().bytes)).status_code == 202:
                    pass
                assert_problem(answer, 429, "too_many_jobs")
            return time.monotonic() - changed_at

        took_s = [kept_after_s()]
        # The machine may stand still meanwhile, but not each time.
        while took_s[-1] >= 1 and len(took_s) < 4:
            admin.patch(path, json={"max_jobs": 100_000})
            for each in (client, beside):
                wait_until(lambda each=each: post(each, uuid4().bytes).status_code == 202)
            admin.patch(path, json={"max_jobs": 1})
            took_s.append(kept_after_s())
        assert took_s[-1] < 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"max_jobs": -1}, "max_jobs"),
        ({"max_jobs": 1.5}, "max_jobs"),
        ({"max_jobs": "1"}, "max_jobs"),
        ({"max_jobs": 10**16}, "max_jobs"),
        ({"audio_hours_per_day": -0.5}, "audio_hours_per_day"),
        ({"max_job": 1}, "max_jobs"),
    ],
)
def test_what_is_no_limit_is_refused_and_changes_nothing(
    change: dict[str, Any], why: str, database: Engine, processes: tuple[str, str]
) -> None:
    tenant = add_tenant(database, max_streams=7)
    with asking(database, "default", processes[0]) as (admin,):
        answer = admin.patch(f"/admin/tenants/{tenant}/limits", json={"max_streams": 1, **change})
        code = "misnamed_field" if "max_job" in change else "invalid_request"
        assert why in assert_problem(answer, 422, code)["detail"]
        for nobody in ("nobody", "no%00body", "%F0%9F%8E%99"):
            path = f"/admin/tenants/{nobody}/limits"
            assert_problem(admin.get(path), 404, "tenant_not_found")
            assert_problem(admin.patch(path, json={"max_jobs": 1}), 404, "tenant_not_found")
    with pytest.raises(InvalidRequest):
        change_limits(database, tenant, change)
    assert get_limits(database, tenant) == {"max_streams": 7}


def test_past_the_queue_of_the_platform_jobs_are_refused(
    settings: Settings, database: Engine
) -> None:
    add_job(database)
    full = settings.model_copy(update={"max_queued_jobs": 1})
    with asked_by(full, database, "default") as client:
        answer = post(client)
        assert_problem(answer, 503, "queue_full")
        assert answer.headers["retry-after"] == "5"
        assert_problem(client.post("/transcribe", files=FILE), 503, "queue_full")
        backlog = client.get("/health/status").json()["backlog"]
        assert backlog == {"jobs": 1, "wait_s": None}


@pytest.mark.parametrize(
    ("backlog", "retry_after_s"),
    [
        (Backlog(jobs=9, wait_s=20.0), None),
        (Backlog(jobs=9, wait_s=None), None),
        (Backlog(jobs=10, wait_s=None), 5.0),
        (Backlog(jobs=19, wait_s=19.0), 10.0),
        (Backlog(jobs=9, wait_s=50.0), 20.0),
        (Backlog(jobs=9, wait_s=9000.0), 60.0),
    ],
)
def test_who_comes_to_a_full_queue_is_told_when_there_will_be_room(
    backlog: Backlog, retry_after_s: float | None, settings: Settings
) -> None:
    platform = settings.model_copy(update={"max_queued_jobs": 10, "max_queue_wait_s": 30.0})
    if retry_after_s is None:
        check_backlog(backlog, platform)
        return
    with pytest.raises(QueueFull) as full:
        check_backlog(backlog, platform)
    assert full.value.retry_after_s == retry_after_s


def test_without_redis_each_process_counts_alone(settings: Settings, database: Engine) -> None:
    tenant = add_tenant(database, requests_per_minute=4)
    with relayed(settings, "broker_url") as (cut_off, relay):
        relay.mute()
        with asked_by(cut_off, database, tenant) as client:
            answers = [client.get("/jobs") for _ in range(12)]
    assert {answer.status_code for answer in answers[:4]} == {200}
    # A new minute may have begun once.
    assert_problem(next(each for each in answers if each.status_code != 200), 429, "rate_limited")


def test_a_redis_that_hangs_is_asked_once_in_a_while(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "_AGAIN_S", 1000.0)
    tenant = uuid4().hex

    async def scenario(url: str, relay: Relay) -> None:
        relay.mute()
        counter = RequestCounter(url, clock=lambda: 30.0)
        burst = await asyncio.gather(*(counter.count(tenant, 20) for _ in range(30)))
        assert sum(quota.is_exceeded for quota in burst) == 10
        await counter.close()
        assert len(relay._open) <= 2, "one connection, of which a relay has two ends"

    with relayed(settings, "broker_url") as (cut_off, relay):
        asyncio.run(scenario(cut_off.broker_url.get_secret_value(), relay))


def test_the_processes_together_grant_no_more_than_the_limit(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "_LIMIT_S", 20.0)  # of a machine that is busy
    tenant, url = uuid4().hex, settings.broker_url.get_secret_value()

    async def scenario() -> None:
        counters = [RequestCounter(url, clock=lambda: 30.0) for _ in range(3)]

        async def ask(number: int) -> bool:
            return not (await counters[number % 3].count(tenant, 1800)).is_exceeded

        granted = sum(await asyncio.gather(*map(ask, range(2400))))
        assert 1800 - 3 * 3 <= granted <= 1800, "each may keep what it has taken out"
        for counter in counters:
            await counter.close()

    asyncio.run(scenario())


def test_the_next_minute_has_requests_of_its_own(settings: Settings) -> None:
    tenant, url = uuid4().hex, settings.broker_url.get_secret_value()
    now = 59.0

    async def scenario() -> None:
        nonlocal now
        counter = RequestCounter(url, clock=lambda: now)
        quotas = [await counter.count(tenant, 1) for _ in range(2)]
        assert [quota.is_exceeded for quota in quotas] == [False, True]
        assert quotas[1].reset_s == 1
        now = 60.0
        assert not (await counter.count(tenant, 1)).is_exceeded
        await counter.close()

    asyncio.run(scenario())


def test_the_command_line_shows_and_changes_limits_in_the_database_and_through_a_server(
    settings: Settings, database: Engine, processes: tuple[str, str]
) -> None:
    tenant = add_tenant(database, max_streams=7)
    limits = ("tenants", "limits", tenant)
    here = {"LONGHAND_DATABASE_URL": settings.database_url.get_secret_value()}
    changed = longhand(*limits, "--max-jobs", "5", "--audio-hours-per-day", "1.5", **here)
    assert changed.returncode == 0, changed.stderr
    assert rows(changed.stdout) == {
        "requests_per_minute": "default",
        "max_jobs": "5",
        "audio_hours_per_day": "1.5",
        "max_upload_bytes": "default",
        "max_open_uploads": "default",
        "max_streams": "7",
        "max_live_sessions": "default",
    }
    with asking(database, "default", processes[0]) as (admin,):
        key = admin.headers["authorization"].removeprefix("Bearer ")
        there = {"LONGHAND_SERVER": processes[0], "LONGHAND_API_KEY": key}
        changed = longhand(*limits, "--max-jobs", "0", "--max-streams", "default", **there)
        shown = rows(longhand(*limits, **there).stdout)
        nobody = longhand("tenants", "limits", "no/body", **there)
    assert rows(changed.stdout) == shown
    assert shown["requests_per_minute"] == "60,000 (default)"
    assert (shown["max_jobs"], shown["max_streams"]) == ("any number", "its share (default)")
    assert get_limits(database, tenant) == {"audio_hours_per_day": 1.5, "max_jobs": 0}
    assert nobody.stderr.startswith("longhand: error: ")
    wrong = longhand(*limits, "--max-jobs", "many", **here)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "neither 'default' nor a whole number from 0 on" in wrong.stderr


def rows(told: str) -> dict[str, str]:
    """Return each limit as it was printed, by its name."""
    lines = (line.split(maxsplit=1) for line in told.splitlines())
    return {name: " ".join(limit.split()) for name, limit in lines}
