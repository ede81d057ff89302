"""Those who watch jobs, by events or long polls: limits, outages, and either end going away."""

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import fastapi.routing
import httpx
import pytest
from sqlalchemy import Engine

from api.app import create_app, end_waits
from api.native import events
from api.problems import RETRY_AFTER_S
from harness.clients.streams import events_of, history, read_all, read_until
from harness.jobs import job_store
from harness.jobs.job_store import add_job, claim
from harness.jobs.spoken import ended_job, hear, planned
from harness.programs.workers import wait_until
from harness.servers.api_server import api, api_process, assert_problem, confined, relayed, serving
from shared.infra.errors import DatabaseUnavailable
from shared.infra.settings import Settings

pytestmark = pytest.mark.usefixtures("database")


def test_past_the_limit_streams_and_waits_are_refused_with_a_time_to_retry(
    settings: Settings, database: Engine
) -> None:
    job_id = add_job(database)
    few = settings.model_copy(update={"max_streams": 2})
    with api(few) as client:
        with events_of(client, job_id), events_of(client, job_id):
            for path in (f"/jobs/{job_id}/events", f"/jobs/{job_id}?wait=5"):
                answer = client.get(path)
                problem = assert_problem(answer, 503, "too_many_streams")
                assert "which is the limit (LONGHAND_MAX_STREAMS)" in problem["detail"]
                assert answer.headers["retry-after"] == str(RETRY_AFTER_S)
            assert client.get(f"/jobs/{job_id}").status_code == 200
        # Those that have left make room.
        wait_until(lambda: client.get(f"/jobs/{job_id}?wait=0.01").status_code == 200)


def test_an_outage_of_postgres_is_bridged_and_nothing_is_lost(
    settings: Settings, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.1)
    job_id = add_job(database)
    planned(database, job_id, 2)
    hear(database, job_id, 0)
    with relayed(settings, "database_url") as (cut_off, relay), api(cut_off) as client:
        with events_of(client, job_id) as source:
            lines = source.response.iter_lines()
            read_until(lines, '"chunk":0')
            relay.go_away()
            hear(database, job_id, 1)
            job_store.finish(database, claim(database, job_id, "finish"))
            for _ in range(5):
                assert not read_until(lines, ": ping")
            relay.come_back()
            rest = list(lines)
        assert any('"chunk":1' in line for line in rest)
        assert any('"succeeded"' in line for line in rest)


def test_a_read_that_fails_is_made_again(
    client: httpx.Client, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_OUTAGE_PAUSE_S", 0.01)
    job_id = ended_job(database, chunks=30)
    whole = history(read_all(client, job_id))
    read, outcomes = events.read_pages, cycle([True, False, False])

    def failing_read(*arguments: Any) -> Any:
        if not next(outcomes):
            raise DatabaseUnavailable("gone")
        return read(*arguments)

    monkeypatch.setattr(events, "read_pages", failing_read)
    assert history(read_all(client, job_id)) == whole
    assert len(whole) == 33


def test_a_server_that_stops_lets_its_streams_and_waits_go(
    settings: Settings, database: Engine, tmp_path: Path
) -> None:
    job_id = add_job(database)
    two = settings.model_copy(update={"max_streams": 2})
    url, log = f"/jobs/{job_id}", tmp_path / "api.log"
    with (
        api_process(two, log) as (client, pid),
        ThreadPoolExecutor(1) as pool,
        events_of(client, job_id) as source,
    ):
        lines = source.response.iter_lines()
        read_until(lines, "event: state")
        polling = pool.submit(poll_patiently, client, url)
        # When both places are taken, the long poll waits.
        wait_until(lambda: client.get(url, params={"wait": 0.01}).status_code == 503)
        os.kill(pid, signal.SIGTERM)
        list(lines)
        assert polling.result().json()["state"] == "queued"
    assert "timeout graceful shutdown exceeded" not in log.read_text(), "they were cut off"


def poll_patiently(client: httpx.Client, url: str) -> httpx.Response:
    while (answer := client.get(url, params={"wait": 60})).status_code == 503:
        pass
    return answer


@pytest.mark.parametrize("path", ["?wait=60", "/events"])
def test_a_client_that_hangs_up_gives_its_place_back(
    settings: Settings, database: Engine, path: str
) -> None:
    job_id = add_job(database)
    app = create_app(confined(settings))
    with serving(app, on_stop=partial(end_waits, app)) as url:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=60) as connection:
            connection.sendall(
                f"GET /jobs/{job_id}{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            )
            wait_until(lambda: hasattr(app.state, "resources"))
            watcher = app.state.resources.watcher
            wait_until(lambda: watcher._watched)
        wait_until(lambda: not watcher._watched, within_s=60)
