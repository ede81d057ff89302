"""The stream of a job's events over real sockets: whole, in order, and to be resumed."""

import json
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import httpx
import pytest
from httpx_sse import ServerSentEvent
from httpx_sse._decoders import SSEDecoder, SSELineDecoder
from sqlalchemy import Engine, text

from harness.clients.streams import HISTORY, events_of, history, read_all, read_until
from harness.jobs import job_store
from harness.jobs.job_store import add_job, claim
from harness.jobs.spoken import CHUNK_S, ended_job, hear, planned, said_in
from harness.programs.workers import wait_until
from harness.servers.api_server import assert_problem
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.retry import retry_job

pytestmark = pytest.mark.usefixtures("database")


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
        job_store.finish(database, claim(database, job_id, "finish"))

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
    # The decoder's own may be that of an event that was cut off before its end.
    return events, events[-1].id if events else after


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
    job_store.finish(database, claim(database, job_id, "finish"))
    reader.join(60)

    percents = [progress["percent"] for progress in told]
    assert percents[0] is None
    known = [percent for percent in percents if percent is not None]
    assert known == sorted(known)
    # What the job waits for may change while the percent stays.
    assert [*dict.fromkeys(known)][-4:] == [50.0, 75.0, 99.0, 100.0]
    assert told[-2]["eta_s"] == 0.0
    assert told[-1]["stage"] == "done"


@pytest.mark.parametrize("stage", ["failed", "canceled"])
def test_the_last_progress_of_a_job_that_did_not_succeed_says_so(
    client: httpx.Client, database: Engine, stage: str
) -> None:
    job_id = ended_job(database) if stage == "failed" else add_job(database)
    if stage == "canceled":
        planned(database, job_id, 1)
        hear(database, job_id, 0)
        cancel_job(database, "default", job_id, max_attempts=3)
    told = [json.loads(e.data) for e in read_all(client, job_id) if e.event == "progress"]
    assert [progress["stage"] for progress in told] == [stage]
    assert told[0]["percent"] < 100


def test_a_canceled_job_that_is_retried_is_followed_to_its_next_end(
    client: httpx.Client, database: Engine
) -> None:
    job_id = add_job(database)
    planned(database, job_id, 2)
    hear(database, job_id, 0)
    cancel_job(database, "default", job_id, max_attempts=3)
    *_, last = read_all(client, job_id)
    assert client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": last.id}).status_code == (
        204
    )
    retry_job(database, "default", job_id, max_attempts=3)
    with events_of(client, job_id, last.id) as source:
        told = source.iter_sse()
        states = [json.loads(e.data)["state"] for e in take_states(told, 1)]
        hear(database, job_id, 1)
        job_store.finish(database, claim(database, job_id, "finish"))
        rest = list(told)
    states += [json.loads(e.data)["state"] for e in rest if e.event == "state"]
    assert states == ["queued", "running", "succeeded"]
    heard = [json.loads(e.data)["chunk"] for e in rest if e.event == "segments"]
    assert heard == [1], "what was done before is not told again"


def test_a_retried_job_is_followed_past_its_failure(client: httpx.Client, database: Engine) -> None:
    job_id = ended_job(database)
    retry_job(database, "default", job_id, max_attempts=3)
    with events_of(client, job_id) as source:
        told = source.iter_sse()
        states = [json.loads(e.data)["state"] for e in take_states(told, 4)]
        job_store.finish(database, claim(database, job_id, "finish"))
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


def test_a_stream_ends_when_its_job_is_deleted(client: httpx.Client, database: Engine) -> None:
    job_id = add_job(database)
    with events_of(client, job_id) as source:
        lines = source.response.iter_lines()
        read_until(lines, '"state":"queued"')
        with database.begin() as connection:
            connection.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": job_id})
        assert not [line for line in lines if line.startswith("data:")]
    assert client.get(f"/jobs/{job_id}/events").status_code == 404
