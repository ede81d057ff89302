"""How the SDK asks: what is tried again and what is not, whatever the server says."""

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from longhand_sdk import AsyncLonghand, ConnectionFailed, JobFailed, Progress, core
from longhand_sdk.core import Core, Patience, path_of
from longhand_sdk.errors import (
    APIError,
    FileChanged,
    JobNotFound,
    ModelNotServed,
    QueueFull,
    TooMuchAudio,
    UnexpectedAnswer,
)

from harness.clients.sdk import Connect

URL = "http://127.0.0.1:1"
JOB = {"id": "one", "state": "queued"}
Reply = httpx.Response | Exception


def problem(status: int, code: str, **members: Any) -> httpx.Response:
    after = members.pop("retry_after", None)
    body = {"status": status, "code": code, "detail": f"no: {code}", "request_id": "r1", **members}
    headers = {} if after is None else {"Retry-After": str(after)}
    return httpx.Response(status, json=body, headers=headers)


class Server:
    """Replies in turn, and keeps what it was asked."""

    def __init__(self, connect: Connect, *replies: Reply, **options: Any) -> None:
        self.asked: list[httpx.Request] = []
        self.pauses: list[float] = []
        self._replies: Iterator[Reply] = iter(replies)
        transport = httpx.MockTransport(self._reply)
        self.client = connect(URL, transport=transport, sleep=self.pauses.append, **options)

    def _reply(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        reply = next(self._replies)
        if isinstance(reply, Exception):
            raise reply
        return reply


def test_all_attempts_at_a_job_have_one_key_and_wait_as_long_as_the_server_says(
    connect: Connect,
) -> None:
    server = Server(
        connect,
        problem(503, "queue_full", retry_after=7),
        httpx.ReadError("cut"),
        problem(409, "idempotency_key_in_use", retry_after=1),
        httpx.Response(502, text="<html>a proxy</html>"),
        httpx.Response(202, json=JOB),
    )
    told: list[Progress] = []

    assert server.client.jobs.submit(b"audio", on_progress=told.append, prompt="ü").id == "one"

    keys = {request.headers["Idempotency-Key"] for request in server.asked}
    assert (len(server.asked), len(keys)) == (5, 1)
    assert server.pauses[0] == 7.0
    assert 0.25 <= server.pauses[1] <= 0.5
    assert server.pauses[2] == 1.0
    bodies = [request.content for request in server.asked]
    assert len(set(bodies)) == 1
    assert b'name="prompt"\r\n\r\n\xc3\xbc\r\n' in bodies[0]
    assert int(server.asked[0].headers["Content-Length"]) == len(bodies[0])
    percents = [each.percent for each in told]
    assert percents == sorted(set(percents))
    assert percents[-1] == 100.0


def test_another_submission_has_another_key_unless_it_is_given(connect: Connect) -> None:
    server = Server(connect, *(httpx.Response(202, json=JOB) for _ in range(3)))
    for key in (None, None, "mine"):
        server.client.jobs.submit("https://example.com/a.mp3", idempotency_key=key)
    first, second, third = (request.headers["Idempotency-Key"] for request in server.asked)
    assert first != second
    assert third == "mine"
    assert json.loads(server.asked[0].content) == {"audio_url": "https://example.com/a.mp3"}


def test_a_refusal_is_raised_at_once_with_all_that_the_server_says(connect: Connect) -> None:
    server = Server(connect, problem(409, "model_not_served", served_models=["a"]))
    with pytest.raises(ModelNotServed, match="no: model_not_served") as refused:
        server.client.jobs.submit(b"audio", model="b")
    assert refused.value.status == 409
    assert refused.value.request_id == "r1"
    assert refused.value.members == {"served_models": ["a"]}
    assert server.pauses == []


def test_a_code_that_this_version_does_not_know_is_an_api_error_with_it(connect: Connect) -> None:
    server = Server(connect, problem(418, "short_and_stout"))
    with pytest.raises(APIError) as refused:
        server.client.models()
    assert (refused.value.code, type(refused.value)) == ("short_and_stout", APIError)


def test_a_wait_beyond_the_time_for_retries_is_left_to_the_caller(connect: Connect) -> None:
    server = Server(connect, problem(429, "too_much_audio", retry_after=3600))
    with pytest.raises(TooMuchAudio) as refused:
        server.client.jobs.submit(b"audio")
    assert refused.value.retry_after_s == 3600.0
    assert server.pauses == []


def test_nothing_is_tried_again_where_no_time_is_given_to_it(connect: Connect) -> None:
    server = Server(connect, problem(503, "queue_full", retry_after=1), retry_s=0)
    with pytest.raises(QueueFull):
        server.client.jobs.submit(b"audio")


def test_a_server_that_never_answered_is_not_waited_for_but_one_that_did_is(
    connect: Connect,
) -> None:
    refused = httpx.ConnectError("Connection refused")
    server = Server(
        connect,
        refused,
        httpx.Response(200, json=JOB),
        refused,
        refused,
        httpx.Response(200, json=JOB),
    )
    with pytest.raises(ConnectionFailed, match=f"cannot reach {URL}: Connection refused"):
        server.client.jobs.get("one")
    server.client.jobs.get("one")
    assert server.pauses == []
    server.client.jobs.get("one")
    assert len(server.pauses) == 2


def test_what_may_have_been_done_is_not_asked_for_again_without_a_key(connect: Connect) -> None:
    server = Server(connect, httpx.ReadError("cut"))
    with pytest.raises(ConnectionFailed):
        server.client.webhooks.create("https://example.com/hook")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "foreign",
    [
        {"status_code": 200, "text": "<html>"},
        {"status_code": 200, "json": {"id": 7}},
        {"status_code": 404, "text": "not here"},
        {"status_code": 302, "headers": {"Location": "/login"}},
    ],
)
def test_what_is_no_longhand_server_is_told(connect: Connect, foreign: dict[str, Any]) -> None:
    server = Server(connect, httpx.Response(**foreign))
    with pytest.raises(UnexpectedAnswer, match=f"{URL} does not answer like a Longhand server"):
        server.client.jobs.get("one")


def test_the_key_of_the_environment_goes_with_each_request(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGHAND_API_KEY", "lh_live_1")
    server = Server(connect, httpx.Response(200, json=JOB))
    server.client.jobs.get("one")
    assert server.asked[0].headers["Authorization"] == "Bearer lh_live_1"


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://a", "http://", "http://a:0", "http://a\tb"]
)
def test_what_is_no_address_is_refused(connect: Connect, url: str) -> None:
    with pytest.raises(ValueError, match="expected http://HOST:PORT"):
        connect(url)


def test_an_address_with_a_password_is_refused_without_showing_it(connect: Connect) -> None:
    with pytest.raises(ValueError, match="use an API key") as refused:
        connect("http://user:word@a")
    assert "word" not in str(refused.value)


@pytest.mark.parametrize("key", ["lh_live_\N{CYRILLIC SMALL LETTER A}", "lh_live_1\nlh_live_2"])
def test_what_is_no_key_is_refused_without_being_shown(connect: Connect, key: str) -> None:
    with pytest.raises(ValueError, match="the API key has characters") as refused:
        connect(URL, api_key=key)
    assert "lh_live" not in str(refused.value)


def test_a_request_that_cannot_be_written_is_not_tried_again(connect: Connect) -> None:
    server = Server(connect, httpx.LocalProtocolError("Illegal header value"))
    with pytest.raises(ConnectionFailed, match="Illegal header value"):
        server.client.models()
    assert server.pauses == []


def test_a_server_that_says_to_come_at_once_is_not_asked_without_a_pause(connect: Connect) -> None:
    server = Server(
        connect, problem(429, "rate_limited", retry_after=0), httpx.Response(200, json=JOB)
    )
    server.client.jobs.get("one")
    assert server.pauses[0] >= 0.25


@pytest.mark.parametrize("method", ["post", "PATCH"])
def test_any_request_that_may_change_something_twice_is_sent_once(
    connect: Connect, method: str
) -> None:
    server = Server(connect, httpx.ReadError("cut"))
    with pytest.raises(ConnectionFailed):
        server.client.request(method, "/jobs/one/retry")
    assert len(server.asked) == 1


def test_a_deletion_whose_answer_was_lost_is_done(connect: Connect) -> None:
    gone = problem(404, "job_not_found")
    server = Server(connect, httpx.Response(200, json=JOB), httpx.ReadError("cut"), gone, gone)
    job = server.client.jobs.get("one")
    job.delete()
    with pytest.raises(JobNotFound):
        job.delete()


def test_an_id_leads_to_no_other_path() -> None:
    assert path_of("jobs", "..", "a/b") == "/jobs/%2E%2E/a%2Fb"
    with pytest.raises(ValueError, match="an id is empty"):
        path_of("jobs", "")


def test_a_wait_allows_the_server_the_clients_time_to_answer(connect: Connect) -> None:
    server = Server(connect, httpx.Response(200, json=JOB), timeout_s=7)
    server.client.jobs.get("one", wait_s=20)
    assert server.asked[0].extensions["timeout"]["read"] == 27


def test_a_wait_with_a_limit_does_not_outlast_it_by_far_where_the_server_is_silent(
    connect: Connect,
) -> None:
    silent = httpx.ReadTimeout("silent")
    server = Server(connect, httpx.Response(200, json=JOB), silent, retry_s=0)
    with pytest.raises(ConnectionFailed):
        server.client.jobs.get("one").wait(4)
    assert 5 <= server.asked[1].extensions["timeout"]["read"] <= 9


def test_a_list_is_read_page_by_page_as_far_as_it_is_wanted(connect: Connect) -> None:
    pages = [
        {"jobs": [{"id": str(n), "state": "queued"} for n in page], "next_cursor": cursor}
        for page, cursor in (((1, 2), "c1"), ((3,), "c2"), ((4,), None))
    ]
    server = Server(connect, *(httpx.Response(200, json=page) for page in pages))
    jobs = server.client.jobs.list(state=["queued", "running"])
    assert [next(jobs).id for _ in range(3)] == ["1", "2", "3"]
    queries = [dict(request.url.params.multi_items()) for request in server.asked]
    assert [query.get("cursor") for query in queries] == [None, "c1"]
    assert server.asked[1].url.params.get_list("state") == ["queued", "running"]
    assert [job.id for job in jobs] == ["4"]


def test_a_job_that_fails_half_way_has_what_was_transcribed(connect: Connect) -> None:
    failed = JOB | {
        "state": "failed",
        "progress": {"chunks_done": 1},
        "error": {"code": "engine_failed", "detail": "it broke down"},
    }
    so_far = {"partial": True, "text": "half of", "missing_s": 3.0}
    server = Server(
        connect,
        httpx.Response(200, json=JOB),
        httpx.Response(200, json=failed),
        httpx.Response(200, json=so_far),
    )
    job = server.client.jobs.get("one")
    with pytest.raises(JobFailed, match="it broke down") as found:
        job.wait()
    assert (found.value.code, found.value.partial.text) == ("engine_failed", "half of")
    assert server.asked[-1].url.params["partial"] == "true"


def test_a_file_that_is_cut_off_while_it_is_sent_is_told(connect: Connect, tmp_path: Any) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(bytes(1_000_000))

    def cut(_: Progress) -> None:
        path.write_bytes(bytes(10))

    server = Server(connect, httpx.Response(202, json=JOB))
    with pytest.raises(FileChanged) as told:
        server.client.jobs.submit(path, on_progress=cut)
    # The exception keeps all frames, and yet the file is closed.
    assert told.tb is not None
    assert str(path) not in open_files()


def open_files() -> list[str]:
    return [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]


def test_a_path_may_be_a_pipe(connect: Connect, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    writing = threading.Thread(target=pipe.write_bytes, args=(b"RIFF-audio",))
    writing.start()
    server = Server(connect, httpx.Response(202, json=JOB))
    server.client.jobs.submit(pipe)
    writing.join()
    assert b'filename="pipe.wav"\r\n\r\nRIFF-audio\r\n' in server.asked[0].content


def test_a_wait_with_a_limit_does_not_outlast_it_while_the_server_is_away(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "FIRST_PAUSE_S", 600.0)
    away = httpx.ReadError("cut")
    server = Server(connect, httpx.Response(200, json=JOB), *(away for _ in range(9)))
    job = server.client.jobs.get("one")
    with pytest.raises(ConnectionFailed):
        job.wait(60)
    assert (len(server.asked), server.pauses) == (2, [])


def test_streams_that_end_at_once_again_and_again_are_not_followed_for_ever(
    connect: Connect,
) -> None:
    server = Server(connect, httpx.Response(200, json=JOB), httpx.Response(200), retry_s=1)
    job = server.client.jobs.get("one")
    with pytest.raises(UnexpectedAnswer):
        list(job.events())
    assert len(server.asked) == 2


def test_pauses_double_up_to_a_limit_and_begin_anew_after_an_answer() -> None:
    now = 0.0
    clock: Callable[[], float] = lambda: now  # noqa: E731 - as a clock is
    patience = Patience(Core(URL, None, 120.0, clock))
    failed = ConnectionFailed("away")
    for longest_s in (0.5, 1, 2, 4, 8, 8):
        assert longest_s / 2 <= patience.pause_s(failed) <= longest_s
    patience.end()
    assert patience.pause_s(failed) <= 0.5
    now = 119.9
    with pytest.raises(ConnectionFailed):
        patience.pause_s(failed)


def test_a_pipe_that_is_slow_does_not_hold_up_the_event_loop() -> None:
    reader, writer = os.pipe()
    transport = httpx.MockTransport(lambda _: httpx.Response(202, json=JOB))

    async def run() -> str:
        async with AsyncLonghand(URL, transport=transport) as client:
            with os.fdopen(reader, "rb") as audio:
                sending = asyncio.create_task(client.jobs.submit(audio))
                await asyncio.sleep(0)  # the task begins, and waits for the pipe
                os.write(writer, b"audio")
                os.close(writer)
                return (await sending).id

    assert asyncio.run(run()) == "one"
