"""Watching jobs over real sockets: events, long polls, and what happens when either is cut off."""

import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import fastapi.routing
import httpx
import jobstore
import pytest
from apiserver import api, api_process, assert_problem, relayed, serving
from httpx_sse import EventSource, ServerSentEvent, connect_sse
from httpx_sse._decoders import SSEDecoder, SSELineDecoder
from jobstore import add_job, claim
from processes import wait_until
from spokenjobs import CHUNK_S, hear, planned, said_in
from sqlalchemy import Engine, text

from api import events
from api.__main__ import GRACE_S
from api.app import create_app, end_waits
from api.problems import RETRY_AFTER_S
from shared import steps
from shared.errors import DatabaseUnavailable, ModelError
from shared.settings import Settings

pytestmark = pytest.mark.usefixtures("database")

HISTORY = ("state", "segments")
"""The events that have an id; ``progress`` is the present and has none."""


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client


@contextmanager
def events_of(
    client: httpx.Client, job_id: UUID, after: str = "", *, timeout_s: float = 30
) -> Iterator[EventSource]:
    headers = {"Last-Event-ID": after} if after else {}
    url = f"/jobs/{job_id}/events"
    with connect_sse(client, "GET", url, headers=headers, timeout=timeout_s) as source:
        yield source


def read_all(client: httpx.Client, job_id: UUID, after: str = "") -> list[ServerSentEvent]:
    """Read a stream to its end."""
    with events_of(client, job_id, after) as source:
        return [event for event in source.iter_sse() if event.event in (*HISTORY, "progress")]


def history(events: list[ServerSentEvent]) -> list[tuple[str, str, str]]:
    return [(event.id, event.event, event.data) for event in events if event.event in HISTORY]


def ended_job(database: Engine, *, chunks: int = 3) -> UUID:
    """A job whose chunks ended in reverse, and which has failed then."""
    job_id = add_job(database)
    planned(database, job_id, chunks)
    for idx in reversed(range(chunks)):
        hear(database, job_id, idx)
    steps.fail(database, claim(database, job_id, "finish"), ModelError("no: it is broken"))
    return job_id


def test_the_stream_of_a_job_is_its_history_in_order_and_then_ends(
    client: httpx.Client, database: Engine
) -> None:
    job_id = ended_job(database)

    with events_of(client, job_id) as source:
        assert source.response.headers["content-type"].startswith("text/event-stream")
        assert source.response.headers["cache-control"] == "no-cache"
        events = list(source.iter_sse())

    assert events[0].retry is not None
    told = [(event.event, json.loads(event.data)) for event in events if event.event in HISTORY]
    assert [name for name, _ in told] == ["state"] * 2 + ["segments"] * 3 + ["state"]
    states = [data for name, data in told if name == "state"]
    assert [data["state"] for data in states] == ["queued", "running", "failed"]
    assert [data["error"] for data in states] == [
        None,
        None,
        {"code": "model_error", "detail": "no: it is broken"},
    ]
    ids = [int(event.id) for event in events if event.event in HISTORY]
    assert ids == sorted(set(ids))


def test_each_chunk_says_what_was_said_in_its_core_at_its_place_in_the_file(
    client: httpx.Client, database: Engine
) -> None:
    job_id = ended_job(database)

    chunks = [json.loads(e.data) for e in read_all(client, job_id) if e.event == "segments"]

    assert [chunk["chunk"] for chunk in chunks] == [2, 1, 0]
    for chunk in chunks:
        idx = chunk["chunk"]
        words = [word for segment in chunk["segments"] for word in segment["words"]]
        assert [word["text"] for word in words] == said_in(idx)
        assert [word["start"] for word in words] == [idx * CHUNK_S + 0.2, idx * CHUNK_S + 9.2]
        assert (chunk["start"], chunk["end"]) == (idx * CHUNK_S, (idx + 1) * CHUNK_S)
        assert chunk["channel"] is None
        assert [segment["id"] for segment in chunk["segments"]] == [0, 1]


def test_a_client_that_comes_back_gets_what_it_has_not_seen(
    client: httpx.Client, database: Engine
) -> None:
    job_id = ended_job(database)
    whole = history(read_all(client, job_id))

    for seen, (event_id, _, _) in enumerate(whole[:-1], start=1):
        assert history(read_all(client, job_id, after=event_id)) == whole[seen:]

    again = client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": whole[-1][0]})
    assert (again.status_code, again.content) == (204, b"")


def test_when_its_words_were_removed_the_states_of_a_job_can_still_be_read(
    client: httpx.Client, database: Engine
) -> None:
    job_id = ended_job(database)
    with database.begin() as connection:
        connection.execute(text("UPDATE steps SET output = NULL"))
    told = [event.event for event in read_all(client, job_id) if event.event in HISTORY]
    assert told == ["state"] * 3


def test_a_stream_cut_anywhere_and_resumed_tells_everything_once(
    client: httpx.Client, database: Engine
) -> None:
    chance = random.Random(7)
    job_id = add_job(database)
    n_chunks = 24

    def work() -> None:
        planned(database, job_id, n_chunks)
        for idx in chance.sample(range(n_chunks), n_chunks):
            hear(database, job_id, idx)
        jobstore.finish(database, claim(database, job_id, "finish"))

    cutting = random.Random(8)
    got: list[ServerSentEvent] = []
    n_cuts = 0
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        last = ""
        while not any('"succeeded"' in event.data for event in got if event.event == "state"):
            seen, last = read_until_cut(client, job_id, last, cutting.randrange(4000))
            got += seen
            n_cuts += 1
        working.result()

    assert n_cuts > 5
    assert history(got) == history(read_all(client, job_id))
    chunks = [json.loads(event.data)["chunk"] for event in got if event.event == "segments"]
    assert sorted(chunks) == list(range(n_chunks))


def read_until_cut(
    client: httpx.Client, job_id: UUID, after: str, n_bytes: int
) -> tuple[list[ServerSentEvent], str]:
    """Read a stream until so many bytes have come, then break the connection."""
    lines, decoder = SSELineDecoder(), SSEDecoder()
    decoder._last_event_id = after
    events: list[ServerSentEvent] = []
    with events_of(client, job_id, after) as source:
        came = 0
        for data in source.response.iter_bytes():
            kept = data[: max(0, n_bytes - came)]
            came += len(data)
            for line in lines.decode(kept.decode()) if kept else ():
                event = decoder.decode(line)
                if event is not None and event.event:
                    events.append(event)
            if came >= n_bytes:
                break
    return events, decoder._last_event_id


def test_progress_is_told_when_it_changes_and_never_falls(
    client: httpx.Client, database: Engine
) -> None:
    job_id = add_job(database)
    told: list[dict[str, object]] = []

    def read() -> None:
        with events_of(client, job_id) as source:
            told.extend(json.loads(e.data) for e in source.iter_sse() if e.event == "progress")

    reader = threading.Thread(target=read)
    reader.start()
    wait_until(lambda: told)
    planned(database, job_id, 4)
    for idx in range(4):
        hear(database, job_id, idx)
        wait_until(lambda: told[-1]["chunks_done"] == idx + 1)  # noqa: B023
    jobstore.finish(database, claim(database, job_id, "finish"))
    reader.join(30)

    percents = [progress["percent"] for progress in told]
    assert percents[0] is None
    known = [percent for percent in percents if percent is not None]
    assert known == sorted(known)
    assert known[-4:] == [50.0, 75.0, 99.0, 100.0]
    assert told[-2]["eta_s"] == 0.0
    assert told[-1]["stage"] == "done"


def test_a_retried_job_is_followed_past_its_failure(client: httpx.Client, database: Engine) -> None:
    job_id = ended_job(database)
    steps.retry_job(database, "default", job_id, max_attempts=3)
    with events_of(client, job_id) as source:
        told = source.iter_sse()
        states = [json.loads(e.data)["state"] for e in take_states(told, 4)]
        jobstore.finish(database, claim(database, job_id, "finish"))
        states += [json.loads(e.data)["state"] for e in told if e.event == "state"]
    assert states == ["queued", "running", "failed", "queued", "running", "succeeded"]


def take_states(events: Iterator[ServerSentEvent], n_states: int) -> Iterator[ServerSentEvent]:
    while n_states:
        event = next(events)
        if event.event == "state":
            n_states -= 1
            yield event


def test_unknown_jobs_and_foreign_ones_are_refused_alike_before_any_stream(
    client: httpx.Client, database: Engine
) -> None:
    foreign = add_job(database, tenant="another")
    problems = []
    for job_id in (uuid4(), foreign, "no-id"):
        problem = assert_problem(client.get(f"/jobs/{job_id}/events"), 404, "job_not_found")
        problems.append(problem["detail"].replace(str(job_id), ""))
        answer = client.get(f"/jobs/{job_id}", params={"wait": 5})
        assert_problem(answer, 404, "job_not_found")
    assert len(set(problems)) == 1


@pytest.mark.parametrize("event_id", ["x", "-1", "1.5", "9" * 30])
def test_an_id_that_is_no_event_is_refused(
    client: httpx.Client, database: Engine, event_id: str
) -> None:
    answer = client.get(f"/jobs/{add_job(database)}/events", headers={"Last-Event-ID": event_id})
    assert_problem(answer, 422, "invalid_request")


def test_past_the_limit_streams_and_waits_are_refused_with_a_time_to_retry(
    settings: Settings, database: Engine
) -> None:
    job_id = add_job(database)
    few = settings.model_copy(update={"max_streams": 2})
    with api(few) as client:
        with events_of(client, job_id), events_of(client, job_id):
            for path in (f"/jobs/{job_id}/events", f"/jobs/{job_id}?wait=5"):
                answer = client.get(path)
                assert_problem(answer, 503, "too_many_streams")
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
            jobstore.finish(database, claim(database, job_id, "finish"))
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
    read, outcomes = events._read, cycle([True, False, False])

    def failing_read(*arguments: Any) -> Any:
        if not next(outcomes):
            raise DatabaseUnavailable("gone")
        return read(*arguments)

    monkeypatch.setattr(events, "_read", failing_read)
    assert history(read_all(client, job_id)) == whole
    assert len(whole) == 33


def read_until(lines: Iterator[str], what: str) -> list[str]:
    """Read lines up to one that has ``what`` in it; return those before it that say something."""
    passed = []
    for line in lines:
        if what in line:
            return passed
        if line.startswith("data:"):
            passed.append(line)
    raise AssertionError(f"the stream ended before {what}")


def test_a_server_that_stops_lets_its_streams_and_waits_go(
    settings: Settings, database: Engine, tmp_path: Path
) -> None:
    job_id = add_job(database)
    two = settings.model_copy(update={"max_streams": 2})
    url = f"/jobs/{job_id}"
    with (
        api_process(two, tmp_path / "api.log") as (client, pid),
        ThreadPoolExecutor(1) as pool,
        events_of(client, job_id) as source,
    ):
        lines = source.response.iter_lines()
        read_until(lines, "event: state")
        polling = pool.submit(poll_patiently, client, url)
        # When both places are taken, the long poll waits.
        wait_until(lambda: client.get(url, params={"wait": 0.01}).status_code == 503)
        began = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        list(lines)
        assert polling.result().json()["state"] == "queued"
        assert time.monotonic() - began < GRACE_S / 2


def poll_patiently(client: httpx.Client, url: str) -> httpx.Response:
    while (answer := client.get(url, params={"wait": 60})).status_code == 503:
        pass
    return answer


def test_a_stream_ends_when_its_job_is_deleted(client: httpx.Client, database: Engine) -> None:
    job_id = add_job(database)
    with events_of(client, job_id) as source:
        lines = source.response.iter_lines()
        read_until(lines, '"state":"queued"')
        with database.begin() as connection:
            connection.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": job_id})
        assert not [line for line in lines if line.startswith("data:")]
    assert client.get(f"/jobs/{job_id}/events").status_code == 404


def test_a_long_poll_is_answered_as_soon_as_the_job_ends(
    settings: Settings, database: Engine
) -> None:
    job_id = add_job(database)
    planned(database, job_id, 0)
    app = create_app(settings)
    with (
        serving(app, on_stop=partial(end_waits, app)) as url,
        httpx.Client(base_url=url, timeout=90) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        polling = pool.submit(client.get, f"/jobs/{job_id}", params={"wait": 60})
        client.get("/health/live")  # the application has started
        wait_until(lambda: app.state.resources.watcher._watched)
        finishing = claim(database, job_id, "finish")
        assert not polling.done()
        began = time.monotonic()
        jobstore.finish(database, finishing)
        answer = polling.result().json()
        assert time.monotonic() - began < 10
        assert answer["state"] == "succeeded"
        assert answer["transcript"] == jobstore.TRANSCRIPT.model_dump(mode="json")
        # Of an ended job at once.
        began = time.monotonic()
        client.get(f"/jobs/{job_id}", params={"wait": 60})
        assert time.monotonic() - began < 10


def test_a_long_poll_of_a_job_that_goes_on_is_answered_after_the_wait(
    client: httpx.Client, database: Engine
) -> None:
    job_id = add_job(database)
    began = time.monotonic()
    answer = client.get(f"/jobs/{job_id}", params={"wait": 0.5})
    assert time.monotonic() - began > 0.5
    assert answer.json()["state"] == "queued"


@pytest.mark.parametrize("wait", ["-1", "61", "soon"])
def test_a_wait_out_of_bounds_is_refused(client: httpx.Client, database: Engine, wait: str) -> None:
    answer = client.get(f"/jobs/{add_job(database)}", params={"wait": wait})
    assert_problem(answer, 422, "invalid_request")


@pytest.mark.parametrize("path", ["?wait=60", "/events"])
def test_a_client_that_hangs_up_gives_its_place_back(
    settings: Settings, database: Engine, path: str
) -> None:
    job_id = add_job(database)
    app = create_app(settings)
    with serving(app, on_stop=partial(end_waits, app)) as url:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=20) as connection:
            connection.sendall(f"GET /jobs/{job_id}{path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            wait_until(lambda: hasattr(app.state, "resources"))
            watcher = app.state.resources.watcher
            wait_until(lambda: watcher._watched)
        wait_until(lambda: not watcher._watched, within_s=10)
